"""Pure functions: tensors and values in, tensors and values out. No sockets, disks, clocks or globals."""
