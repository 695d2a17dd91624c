"""What is here damages memory: it is for a virtual machine, see `run`."""

import os

collect_ignore_glob = [] if os.environ.get("SAFEMMAP_VM") == "1" else ["*"]
