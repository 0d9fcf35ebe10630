"""``python -m refsr_bench`` is ``refsr-bench``."""

from refsr_bench.cli import main

if __name__ == "__main__":
    main()
