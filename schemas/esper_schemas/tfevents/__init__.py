"""Event files of TensorBoard (tfevents), both directions: framing, checksums, the protobuf fields that matter."""
