"""`python -m m3dllm`."""

from m3dllm.cli import main

main()
