"""The options of a constructor that hands some of them on to its base class."""

import inspect


def full_signature(cls: type) -> inspect.Signature:
    """The constructor's signature, with the options that its `**` hands on in place of it.

    `**` hands on what the next constructor in the method resolution order takes by keyword only. So an option that
    several classes share is written once, with its type and default, in the class that they share; a class that names
    it again has another default.
    """
    own, *inherited = (vars(c)["__init__"] for c in cls.__mro__ if "__init__" in vars(c))
    _, *parameters = inspect.signature(own).parameters.values()
    for constructor in inherited:
        named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
        if len(named) == len(parameters):
            break
        known = {p.name for p in named}
        handed_on = inspect.signature(constructor).parameters.values()
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
        parameters = named + [p for p in handed_on if p.kind in kinds and p.name not in known]
    return inspect.Signature(parameters)
