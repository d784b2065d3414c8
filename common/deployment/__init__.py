"""What a hospital and the coordinator start, seal and check alike; with `common.command` the only room here that touches files and processes."""
