"""PPO from a config file: `python lop-src/lop/rl/run_ppo_2nd.py -c lop-src/lop/rl/cfg/ant/sassha_sdp.yml -s 1`.

Another door to `python lop-src/main.py rl -c ... -s 1`, under the name that users of the published code know.
"""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    source = Path(__file__).resolve().parents[2]
    sys.path[0] = str(source)  # instead of this file's folder
    sys.argv.insert(1, "rl")
    runpy.run_path(str(source / "main.py"), run_name="__main__")
