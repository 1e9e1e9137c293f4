"""``dataclass``, ``field`` and ``replace`` as the standard library has them, for a process that must be small.

A type checker sees the real ones. The real ones import ``inspect``, ``ast`` and ``dis`` and compile six functions for
each class: of the killer's image that was a third of the memory and two thirds of the time to start. Here one function
is compiled for each class; the rest is shared. Frozen values are frozen, and made twice as fast.

What is not needed here is not there: inheritance between dataclasses, InitVar, ``__post_init__``, keyword-only fields.
The standard library's own functions take these classes for dataclasses where somebody has it loaded.
"""

from __future__ import annotations

from _operator import attrgetter

__all__ = ["MISSING", "dataclass", "field", "fields", "is_dataclass", "replace"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
else:

    class _Missing:
        """No default."""

    MISSING = _Missing()

    class Field:
        """One field of a dataclass, under the standard library's attribute names."""

        __slots__ = ("default", "default_factory", "name", "type")

        def __init__(self, default=MISSING, default_factory=MISSING):
            self.name = self.type = ""
            self.default = default
            self.default_factory = default_factory

    def field(*, default=MISSING, default_factory=MISSING):
        """A field whose default is made anew for each value."""
        return Field(default, default_factory)

    def dataclass(*, frozen=False, slots=True, order=False):
        """Decorates a class whose annotated names are its fields."""
        assert slots
        return lambda cls: _build(cls, frozen=frozen, order=order)

    def fields(value):
        """The fields of a dataclass or a value of one, in order."""
        return value.__fields__

    def is_dataclass(value):
        """Whether it is a dataclass, or a value of one."""
        return hasattr(value, "__fields__")

    def replace(value, /, **changes):
        """The same value, but for these fields."""
        cls = value.__class__
        parts = list(cls.__parts__(value))
        for name, part in changes.items():
            parts[cls.__places__[name]] = part
        return cls(*parts)

    def _build(cls, *, frozen, order):
        content = dict(cls.__dict__)
        found = tuple(_declared(name, kind, content) for name, kind in content.get("__annotations__", {}).items())
        names = tuple(each.name for each in found)
        for name in ("__dict__", "__weakref__"):
            content.pop(name, None)
        content |= {
            "__slots__": names,
            "__match_args__": names,
            "__fields__": found,
            "__places__": {name: place for place, name in enumerate(names)},
            "__parts__": staticmethod(_parts_of(names)),
            "__dataclass_fields__": _STANDARD,
            "__repr__": _represent,
            "__eq__": _equals,
            "__hash__": _hash if frozen else None,
            "__reduce__": _reduce,
        }
        if frozen:
            content |= {"__setattr__": _refuse, "__delattr__": _refuse}
        if order:
            content |= {"__lt__": _is_less, "__gt__": _is_more, "__le__": _is_at_most, "__ge__": _is_at_least}
        made = type(cls)(cls.__name__, cls.__bases__, content)
        made.__init__ = _initializer(made, found)
        return made

    def _declared(name, kind, content):
        """The field, whose default no longer stands in the way of its slot."""
        default = content.pop(name, MISSING)
        declared = default if isinstance(default, Field) else Field(default)
        declared.name, declared.type = name, kind
        return declared

    def _parts_of(names):
        """From a value to the tuple of its parts."""
        if len(names) > 1:
            return attrgetter(*names)
        return (lambda value: (getattr(value, names[0]),)) if names else (lambda value: ())

    def _initializer(cls, found):
        """``__init__``, the only function that is compiled for a class: it writes through the slots themselves, which
        no ``__setattr__`` can refuse.
        """
        scope = {"MISSING": MISSING}
        parameters, body = ["self"], []
        for each in found:
            name = each.name
            scope[f"set_{name}"] = getattr(cls, name).__set__
            value = name
            if each.default_factory is not MISSING:
                scope[f"make_{name}"] = each.default_factory
                parameters.append(f"{name}=MISSING")
                value = f"make_{name}() if {name} is MISSING else {name}"
            elif each.default is not MISSING:
                scope[f"default_{name}"] = each.default
                parameters.append(f"{name}=default_{name}")
            else:
                parameters.append(name)
            body.append(f"    set_{name}(self, {value})\n")
        exec(f"def __init__({', '.join(parameters)}):\n{''.join(body) or '    pass'}", scope)  # noqa: S102
        made = scope["__init__"]
        made.__qualname__ = f"{cls.__qualname__}.__init__"
        made.__module__ = cls.__module__
        return made

    class _Standard:
        """``__dataclass_fields__``, made when the standard library asks for it."""

        def __get__(self, value, cls):
            import dataclasses

            return {each.name: _standard_field(dataclasses, each) for each in cls.__fields__}

    def _standard_field(dataclasses, each):
        options = {}
        if each.default is not MISSING:
            options["default"] = each.default
        if each.default_factory is not MISSING:
            options["default_factory"] = each.default_factory
        made = dataclasses.field(**options)
        made.name, made.type, made._field_type = each.name, each.type, dataclasses._FIELD
        return made

    _STANDARD = _Standard()

    def _represent(self):
        parts = zip(self.__match_args__, self.__parts__(self), strict=True)
        return f"{self.__class__.__qualname__}({', '.join(f'{name}={part!r}' for name, part in parts)})"

    def _equals(self, other):
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self.__parts__(self) == self.__parts__(other)

    def _hash(self):
        return hash(self.__parts__(self))

    def _reduce(self):
        return self.__class__, self.__parts__(self)

    def _refuse(self, name, *_):
        raise AttributeError(f"{self.__class__.__name__}.{name} cannot be changed: it is part of a value")

    def _is_less(self, other):
        return self.__parts__(self) < self.__parts__(other)

    def _is_more(self, other):
        return self.__parts__(self) > self.__parts__(other)

    def _is_at_most(self, other):
        return self.__parts__(self) <= self.__parts__(other)

    def _is_at_least(self, other):
        return self.__parts__(self) >= self.__parts__(other)
