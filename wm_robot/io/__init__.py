"""Files: durable writes, tensor files, strict JSON, shared memory."""
