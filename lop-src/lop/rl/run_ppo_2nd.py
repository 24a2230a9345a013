"""PPO from a config file: `python lop-src/lop/rl/run_ppo_2nd.py -c lop-src/lop/rl/cfg/ant/sassha_sdp.yml -s 1`.

Another door to `python lop-src/main.py rl -c ... -s 1`, under the name that users of the published code know.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # instead of this file's folder
    from lop.cli import main

    sys.exit(main(["rl", *sys.argv[1:]]))
