"""Files and directories of a disk: whole, durable, and with clear words when the disk refuses."""
