"""A chart is a resource of the server: a Vega-Lite document, or the SVG drawn from it."""

from pathlib import Path
from typing import Any

from bfc_client.transport import Transport


class Chart:
    """One chart of one experiment, fetched when it is asked for."""

    def __init__(self, transport: Transport, path: str) -> None:
        self._transport = transport
        self._path = path

    def spec(self) -> dict[str, Any]:
        """The Vega-Lite document, its data inside."""
        document: dict[str, Any] = self._transport.get_json(f"{self._path}.vl.json")
        return document

    def svg(self) -> str:
        """The drawing; it needs nothing from elsewhere."""
        return self._transport.send("GET", f"{self._path}.svg", headers={"Accept": "image/svg+xml"}).text

    def save(self, path: str | Path) -> Path:
        """Write ``….svg`` (the drawing) or ``….json`` (the Vega-Lite document); the folder must exist.

        Raises:
            ValueError: the name ends in neither.
        """
        target = Path(path)
        match target.suffix:
            case ".svg":
                target.write_text(self.svg(), encoding="utf-8")
            case ".json":
                content = self._transport.send("GET", f"{self._path}.vl.json").content
                target.write_bytes(content)
            case other:
                raise ValueError(
                    f"a chart is saved as .svg or .json, not as {other or 'a name without ending'!r}"
                )
        return target

    def _repr_svg_(self) -> str:
        """What a notebook shows; it needs no script and no network."""
        return self.svg()
