"""``dataclass``, ``field`` and ``replace`` as the standard library has them, for a process that must be small.

A type checker sees the real ones. The real ones import ``inspect``, ``ast`` and ``dis`` and compile six functions for
each class: of the killer's image that was a third of the memory and two thirds of the time to start. Here one function
is compiled for all classes with as many fields; the rest is shared. Frozen values are frozen, and made twice as fast.

What is not needed here is not there: inheritance between dataclasses, InitVar, ``__post_init__``, keyword-only fields.
The standard library's own functions take these classes for dataclasses where somebody has it loaded.
"""

from __future__ import annotations

from _operator import attrgetter
from sys import modules

__all__ = ["MISSING", "dataclass", "field", "fields", "is_dataclass", "replace"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
else:

    class _Missing:
        """No default."""

    def _sample(cell):
        return lambda: cell

    # As `types` calls them, which is not loaded for three names.
    FunctionType = type(_sample)
    CodeType = type(_sample.__code__)
    CellType = type(_sample(0).__closure__[0])

    MISSING = _Missing()
    _SHAPES = {}

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
        cls = value if isinstance(value, type) else value.__class__
        return tuple(_declared(name, kind, cls.__defaults__) for name, kind in cls.__annotations__.items())

    def is_dataclass(value):
        """Whether it is a dataclass, or a value of one."""
        return hasattr(value, "__parts__")

    def replace(value, /, **changes):
        """The same value, but for these fields."""
        cls = value.__class__
        parts = list(cls.__parts__(value))
        place = cls.__match_args__.index
        for name, part in changes.items():
            parts[place(name)] = part
        return cls(*parts)

    def _build(cls, *, frozen, order):
        content = dict(cls.__dict__)
        names = tuple(content.get("__annotations__", ()))
        defaults = {name: content.pop(name) for name in names if name in content}
        for name in ("__dict__", "__weakref__"):
            content.pop(name, None)
        content |= {
            "__slots__": names,
            "__match_args__": names,
            "__defaults__": defaults,
            "__parts__": staticmethod(_parts_of(names)),
        }
        base = _Ordered if order else _Frozen if frozen else _Open
        made = type(cls)(cls.__name__, (*(each for each in cls.__bases__ if each is not object), base), content)
        made.__init__ = _initializer(made, names, defaults)
        return made

    def _declared(name, kind, defaults):
        default = defaults.get(name, MISSING)
        declared = default if isinstance(default, Field) else Field(default)
        declared.name, declared.type = name, kind
        return declared

    def _parts_of(names):
        """From a value to the tuple of its parts."""
        if len(names) > 1:
            return attrgetter(*names)
        return (lambda value: (getattr(value, names[0]),)) if names else (lambda value: ())

    def _initializer(cls, names, defaults):
        """``__init__``: it writes through the slots themselves, which no ``__setattr__`` can refuse.

        Compiled once for all classes of the same shape; what is left for each class are its names, its defaults and
        its slots, as the cells of a closure.
        """
        made = {name: default for name, default in defaults.items() if isinstance(default, Field)}
        shape = tuple(name in made for name in names)
        code = _SHAPES.get(shape)
        if code is None:
            code = _SHAPES[shape] = _compile_shape(shape)
        cells = {"MISSING": MISSING}
        for place, name in enumerate(names):
            cells[f"set{place}"] = getattr(cls, name).__set__
            if name in made:
                cells[f"make{place}"] = made[name].default_factory
        optional = names[len(names) - len(defaults) :]
        if not defaults.keys() >= {*optional}:
            raise TypeError(f"{cls.__qualname__}: one of {', '.join(optional)} has no default and follows one that has")
        code = code.replace(co_varnames=("self", *names), co_qualname=f"{cls.__qualname__}.__init__")
        return FunctionType(
            code,
            modules[cls.__module__].__dict__,
            "__init__",
            tuple(MISSING if name in made else defaults[name] for name in optional),
            tuple(CellType(cells[name]) for name in code.co_freevars),
        )

    def _compile_shape(shape):
        """For so many fields; True for those whose defaults are made anew."""
        names, body = [], []
        for place, is_made in enumerate(shape):
            part = f"part{place}"
            names += [f"set{place}", f"make{place}"] if is_made else [f"set{place}"]
            value = f"make{place}() if {part} is MISSING else {part}" if is_made else part
            body.append(f"  set{place}(self, {value})\n")
        outer = ", ".join(["MISSING", *names])
        parts = ", ".join(["self", *(f"part{place}" for place in range(len(shape)))])
        scope = {}
        exec(f"def shape({outer}):\n def __init__({parts}):\n{''.join(body) or '  pass'}\n return __init__", scope)  # noqa: S102
        return next(each for each in scope["shape"].__code__.co_consts if isinstance(each, CodeType))

    class _Standard:
        """``__dataclass_fields__``, made when the standard library asks for it."""

        def __get__(self, value, cls):
            import dataclasses

            return {each.name: _standard_field(dataclasses, each) for each in fields(cls)}

    def _standard_field(dataclasses, each):
        options = {}
        if each.default is not MISSING:
            options["default"] = each.default
        if each.default_factory is not MISSING:
            options["default_factory"] = each.default_factory
        made = dataclasses.field(**options)
        made.name, made.type, made._field_type = each.name, each.type, dataclasses._FIELD
        return made

    class _Open:
        """What all of them can do; each has its own ``__parts__``."""

        __slots__ = ()
        __dataclass_fields__ = _Standard()
        __hash__ = None

        def __repr__(self):
            parts = zip(self.__match_args__, self.__parts__(self), strict=True)
            return f"{self.__class__.__qualname__}({', '.join(f'{name}={part!r}' for name, part in parts)})"

        def __eq__(self, other):
            if other.__class__ is not self.__class__:
                return NotImplemented
            return self.__parts__(self) == self.__parts__(other)

        def __reduce__(self):
            return self.__class__, self.__parts__(self)

    class _Frozen(_Open):
        __slots__ = ()

        def __hash__(self):
            return hash(self.__parts__(self))

        def __setattr__(self, name, *_):
            raise AttributeError(f"{self.__class__.__name__}.{name} cannot be changed: it is part of a value")

        __delattr__ = __setattr__

    class _Ordered(_Frozen):
        __slots__ = ()

        def __lt__(self, other):
            return self.__parts__(self) < self.__parts__(other)

        def __gt__(self, other):
            return self.__parts__(self) > self.__parts__(other)

        def __le__(self, other):
            return self.__parts__(self) <= self.__parts__(other)

        def __ge__(self, other):
            return self.__parts__(self) >= self.__parts__(other)
