"""What all objects of the protocol have in common: requests, events and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from .client import Client


class ProtocolError(Exception):
    """A client broke the rules, and is to be told which."""

    def __init__(self, resource: Resource, code: int, message: str) -> None:
        super().__init__(message)
        self.resource, self.code = resource, code


class Request(NamedTuple):
    name: str
    signature: str  # see wire.py
    types: tuple[type[Resource], ...]  # of its objects
    method: Callable[..., None]


def request(signature: str = "", *types: type[Resource]) -> Callable[..., Any]:
    """A method that a client calls. Its number is its place in the class."""

    def mark(method: Callable[..., None]) -> Callable[..., None]:
        method.request = Request(method.__name__, signature, types, method)  # type: ignore[attr-defined]
        return method

    return mark


class Event:
    """What a client is told: as an attribute of a class, a method that sends it."""

    def __init__(self, opcode: int, signature: str = "") -> None:
        self.opcode, self.signature = opcode, signature

    def __get__(self, resource: Resource, _: object) -> Callable[..., None]:
        def send(*arguments: Any) -> None:
            resource.client.send(resource.id, self.opcode, self.signature, arguments)

        return send


class Resource:
    interface: ClassVar[str] = "object"
    version: ClassVar[int] = 1  # the highest that is offered
    most: ClassVar[int] = 1024  # of one client
    requests: ClassVar[tuple[Request, ...]]

    def __init_subclass__(cls) -> None:
        methods = vars(cls).values()
        cls.requests = tuple(m.request for m in methods if hasattr(m, "request"))

    def __init__(self, client: Client, id: int, bound: int = 1) -> None:
        """`bound` is the version that the client asked for."""
        self.client, self.id, self.bound = client, id, bound
        client.add(self)

    def error(self, code: int, message: str) -> ProtocolError:
        return ProtocolError(self, code, message)

    def gone(self) -> None:
        """Called when it was destroyed, or its client has left."""
