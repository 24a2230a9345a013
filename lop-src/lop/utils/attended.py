"""Is somebody in front of the notebook?"""

import importlib.util
import sys


def attended() -> bool:
    """True in a notebook whose front end can ask its user something, and with ipywidgets there.

    Papermill, nbconvert and scripts cannot: forms would only leave dead text in their output.
    """
    if "IPython" not in sys.modules or importlib.util.find_spec("ipywidgets") is None:
        return False
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return False
    message = kernel.get_parent() or {}
    return bool(message.get("content", {}).get("allow_stdin"))
