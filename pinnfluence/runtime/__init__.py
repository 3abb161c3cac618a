"""Where and how things are computed: devices, threads, processes, progress."""
