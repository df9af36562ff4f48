"""`python -m tasuki.sdk` is the command `tasuki`."""

from tasuki.sdk.cli import main

main()
