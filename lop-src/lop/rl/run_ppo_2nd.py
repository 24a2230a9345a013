"""PPO from a config file: `python lop-src/lop/rl/run_ppo_2nd.py -c lop-src/lop/rl/cfg/ant/sassha_sdp.yml -s 1`.

The same as `python lop-src/main.py rl -c ... --seed 1`, under the name that users of the published code know.
"""

import argparse
import sys

from lop.config import parse_override
from lop.plan import make_config
from lop.run import run
from lop.training.progress import Progress
from lop.utils.errors import UserError

USER_ERROR, RESUME_ME, INTERRUPTED = 2, 75, 130


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 finished, 1 diverged and told to stop, 2 a user's mistake, 75 run the same again to go on."""
    parser = argparse.ArgumentParser(description="Train PPO with any optimizer and any interventions.")
    parser.add_argument("-c", "--config", required=True, help="a config file of lop-src/lop/rl/cfg")
    parser.add_argument("-s", "--seed", "--index", type=int, help="the run's seed")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--quiet", action="store_true", help="no progress and no summaries")
    options = parser.parse_args(arguments)
    try:
        overrides = dict(parse_override(text) for text in options.overrides)
        if options.seed is not None:
            overrides["run.seed"] = options.seed
        config = make_config(options.config, overrides=overrides)
        result = run(config, None if options.quiet else Progress(config.label), summaries=not options.quiet)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted: the last checkpoint is kept; run the same command again to go on", file=sys.stderr)
        return INTERRUPTED
    print(f"{result.status}: {len(result.tasks)} tasks; tables in {result.folder}")
    return RESUME_ME if result.status == "interrupted" else int(result.status == "diverged")


if __name__ == "__main__":
    sys.exit(main())
