"""What a part of a run may be given: options read from signatures, checked and described in the user's words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Strict, ValidationError, create_model

from lop.utils.documents import plain_scalar
from lop.utils.errors import UserError, near_matches, shown

Flag = Annotated[bool, Strict()]  # without it pydantic takes "no" and 0, too
STRICT_KEYS = ConfigDict(extra="forbid", allow_inf_nan=False)


def number(value: Any) -> Any:
    """What may become a number: no `true`, and of texts only those that a config without quotes reads as one."""
    if isinstance(value, str):
        value = plain_scalar(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("expected a number")
    if isinstance(value, bool):
        raise ValueError("expected a number, not a boolean")
    return value


def check_options(
    path: str, part: Callable | Mapping[str, inspect.Parameter], options: dict[str, Any]
) -> dict[str, Any]:
    """Options with their types checked, coerced.

    path: of the section, for messages. part: a class or function, whose keyword-only, annotated parameters are the
    options, or the parameters themselves. Raises UserError for an unknown key (with the near match), a missing one,
    or a wrong type.
    """
    found = checked(_options_model(part), options, path)
    # in the order of the signature: a set has none, and people read them
    return {name: getattr(found, name) for name in type(found).model_fields if name in found.model_fields_set}


def default_options(part: Callable | Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The options that have a default, with it."""
    return {n: p.default for n, p in _parameters(part).items() if p.default is not p.empty}


def _parameters(part: Callable | Mapping[str, inspect.Parameter]) -> Mapping[str, inspect.Parameter]:
    return _parameters_of(part) if callable(part) else part


@lru_cache(maxsize=1000)
def _parameters_of(part: Callable) -> dict[str, inspect.Parameter]:
    hints = get_type_hints(part.__init__ if inspect.isclass(part) else part)
    parameters = [p for p in inspect.signature(part).parameters.values() if p.kind is p.KEYWORD_ONLY]
    # an option that is handed on to a base class has its type there
    return {p.name: p.replace(annotation=hints.get(p.name, p.annotation)) for p in parameters}


def _options_model(part: Callable | Mapping[str, inspect.Parameter]) -> type[BaseModel]:
    fields = tuple((name, p.annotation, p.default is p.empty) for name, p in _parameters(part).items())
    try:
        return _known_model(fields)
    except TypeError:  # an annotation that cannot be hashed
        return _model(fields)


def _model(fields: tuple[tuple[str, Any, bool], ...]) -> type[BaseModel]:
    """fields: name, annotation, and whether it must be given; what it is otherwise is nobody's question here."""
    types: dict[str, Any] = {name: (_guarded(hint), ... if needed else None) for name, hint, needed in fields}
    return create_model("Options", __config__=ConfigDict(**STRICT_KEYS, arbitrary_types_allowed=True), **types)


_known_model = lru_cache(maxsize=1000)(_model)  # a study checks the same options thousands of times


def _is_tensor(hint: Any) -> bool:
    return getattr(hint, "__name__", "") == "Tensor"


def _guarded(hint: Any) -> Any:
    """A hint as a config means it: no tensors (torch allows them for `lr`), and `true` is not 1."""
    if hint is inspect.Parameter.empty:
        return Any
    if hint in (int, float):
        return Annotated[hint, BeforeValidator(number)]
    if hint is bool:
        return Flag
    members = tuple(m if m in (..., None) else _guarded(m) for m in get_args(hint) if not _is_tensor(m))
    if get_origin(hint) in (Union, UnionType):
        return Union[members]  # noqa: UP007 (built at run time)
    origin = list if get_origin(hint) is Sequence else get_origin(hint)  # a default may be a tuple, a config has lists
    return origin[members] if origin in (list, tuple, dict) else hint


def checked(model: type[BaseModel], data: dict[str, Any], path: str) -> Any:
    """An instance of the model. Raises UserError: the key's dotted path, which begins with `path`, and the reason."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _described(error.errors()[0], model, data, path) from None


def _described(error: Mapping[str, Any], model: type[BaseModel], data: Any, path: str) -> UserError:
    keys = _keys_in(data, error["loc"])
    where = ".".join([*filter(None, [path]), *(str(key) or '""' for key in keys)])
    if error["type"] == "extra_forbidden":
        message = f"unknown key; {near_matches(str(keys[-1]), _fields(model, keys[:-1]))}"
    elif error["type"] == "missing":
        where, message = ".".join(filter(None, [where, str(error["loc"][-1])])), "missing"
    else:
        reason = error["msg"].removeprefix("Value error, ")
        message = f"{reason[0].lower()}{reason[1:]}, got {shown(error['input'])}"
    return UserError(message, option=where, joint=": ")


def _keys_in(data: Any, location: tuple) -> list[str | int]:
    """The part of pydantic's location that the user wrote: it also names members of unions and validators."""
    keys = []
    for part in location:
        known = range(len(data)) if isinstance(data, list | tuple) else data if isinstance(data, dict) else ()
        if part in known:
            data = data[part]
            keys.append(part)
    return keys


def _fields(model: type[BaseModel], keys: list[str | int]) -> list[str]:
    for key in keys:
        field = model.model_fields.get(str(key))
        if field is None or not (inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel)):
            break
        model = field.annotation
    return list(model.model_fields)
