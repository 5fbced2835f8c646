"""What every test run needs before anything is imported."""

import os

# transformers unpacks BitNet weights through torch.compile, which would run a compiler for minutes.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
# No test may reach a network; hub code is tested against local folders.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
