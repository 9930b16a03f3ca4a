"""Whether a reader of bundles can be made to take what nobody trusted has signed, or to fall over it."""
