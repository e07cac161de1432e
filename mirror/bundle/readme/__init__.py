"""The sections of ``README.txt`` for programs: versions that leave, and the proof of wants."""
