"""Variants: the experimental conditions in which a base may be trained."""

from wm_robot.errors import ConfigError

COMPARED_VARIANTS = ("adaptive", "robust", "oracle")
"""Variants whose bases the comparison benches need; `--all` trains them in this order."""
MEMORY_OF_VARIANT = {"robust": "null", "nominal": "null", "oracle": "oracle"}


def check_variant(variant: str, memory: str, all_bases: bool) -> None:
    """Reject a variant and a memory that do not match.

    Raises:
        ConfigError: If they do not match.
    """
    if all_bases and variant != "adaptive":
        raise ConfigError(
            f"variant is '{variant}', and --all makes {', '.join(COMPARED_VARIANTS)}. Leave out one of the two"
        )
    of_memory = [name for name, kept in MEMORY_OF_VARIANT.items() if kept == memory]
    if of_memory and variant not in of_memory:
        raise ConfigError(
            f"memory is '{memory}', which learns nothing, and variant is '{variant}'. To train a base with it: "
            f"--variant {of_memory[0]}"
        )
