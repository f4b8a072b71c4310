"""Features of an OGC API Features or WFS 2.0 service, page by page, as one GeoJSON document.

Every page is held to what the service itself says: how many features there are, how many it gave, where the next page
is. A service that loops, answers short, points elsewhere or gives no features is refused, never half believed.
"""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urljoin, urlsplit

import orjson
import urllib3

from assets.deliveries.delivered import DeliveryError
from assets.deliveries.jsons import split
from assets.deliveries.layouts import Source
from datafabriek.config import FeatureSource

LARGEST_PAGE = 64 << 20
_MOST_PAGES = 20_000
_RETRIED = (408, 425, 429, 500, 502, 503, 504)

Get = Callable[[str], bytes]


def collect(name: str, source: FeatureSource, ca_bundle: Path | None, target: IO[bytes]) -> int:
    """Write all features of a layer as one GeoJSON document.

    Returns:
        how many features there were.

    Raises:
        DeliveryError: the service does not answer, or not as its standard says.
    """
    get = _getter(name, source, ca_bundle)
    pages = _ogc_pages(name, source, get) if source.kind == "ogc" else _wfs_pages(name, source, get)
    target.write(b'{"type": "FeatureCollection", "features": [\n')
    total, claimed = 0, None
    for features, count, matched in pages:
        if count:
            target.write((b",\n" if total else b"") + features)
        total += count
        claimed = matched if matched is not None else claimed
    if claimed is not None and claimed != total:
        raise DeliveryError(
            f"delivery `{name}`: {source.url} says there are {claimed} features and gave {total}: it is not whole, the "
            "next run tries again"
        )
    target.write(b"\n]}\n")
    return total


Page = tuple[bytes, int, int | None]
"""The features of a page as JSON text, how many there are, and how many the service says there are in all."""


def _ogc_pages(name: str, source: FeatureSource, get: Get) -> Iterator[Page]:
    url: str | None = f"{source.url}/collections/{source.layer}/items?" + urlencode(
        {"f": "json", "limit": source.page_size}
    )
    seen: set[str] = set()
    while url:
        if url in seen or len(seen) > _MOST_PAGES:
            raise DeliveryError(
                f"delivery `{name}`: {source.url} keeps pointing to pages that were read: tell its owner"
            )
        seen.add(url)
        features, count, page = _geojson(name, source, get(url))
        yield features, count, _number(page.get("numberMatched"))
        links = [link for link in page.get("links") or () if isinstance(link, dict) and link.get("rel") == "next"]
        url = urljoin(url, str(links[0].get("href"))) if links else None
        if url and urlsplit(url)[:2] != urlsplit(source.url)[:2]:
            raise DeliveryError(
                f"delivery `{name}`: {source.url} points to another host for its next page: not followed"
            )


def _wfs_pages(name: str, source: FeatureSource, get: Get) -> Iterator[Page]:
    begin, before = 0, b""
    for _ in range(_MOST_PAGES):
        query = {
            "service": "WFS", "version": "2.0.0", "request": "GetFeature", "typeNames": source.layer,
            "count": source.page_size, "startIndex": begin,
            "outputFormat": "application/json" if source.output == "geojson" else "application/gml+xml; version=3.2",
        }  # fmt: skip
        body = get(f"{source.url}{'&' if '?' in source.url else '?'}{urlencode(query)}")
        if source.output == "geojson" and not body.lstrip().startswith(b"<"):
            features, count, page = _geojson(name, source, body)
            matched = _number(page.get("numberMatched", page.get("totalFeatures")))
        else:
            features, count, matched = _gml(name, source, body)
        print_ = hashlib.sha256(features).digest()
        if count and print_ == before:
            if matched is None and count < source.page_size:
                return  # it does not know startIndex, and had given all at once
            raise DeliveryError(
                f"delivery `{name}`: {source.url} gives the same page again: it does not know startIndex"
            )
        yield features, count, matched
        begin, before = begin + count, print_
        # a page of fewer than were asked for is no end: a service may give fewer than that at a time
        if not count or (matched is not None and begin >= matched):
            return
    raise DeliveryError(f"delivery `{name}`: {source.url} has no end: raise `source.page_size`, or tell its owner")


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _geojson(name: str, source: FeatureSource, body: bytes) -> tuple[bytes, int, dict[str, Any]]:
    """The features of a page as they stand there, how many, and the page without them."""
    try:
        lists, around = split(Source("page", body), ("features",))
    except DeliveryError:
        raise DeliveryError(
            f"delivery `{name}`: {source.url} answers with something else than GeoJSON: check `url` and `layer`"
        ) from None
    page: dict[str, Any] = around[0]
    found = lists[0]
    count = len(found.starts)
    given = _number(page.get("numberReturned"))
    if given is not None and given != count:
        raise DeliveryError(f"delivery `{name}`: {source.url} says a page has {given} features, and it has {count}")
    return body[found.opens + 1 : found.closes].strip(), count, page


# --- GML -------------------------------------------------------------------------------------------------------

_GML_MEMBERS = {"member", "featureMember", "featureMembers"}


def _gml(name: str, source: FeatureSource, body: bytes) -> Page:
    from io import BytesIO

    from lxml import etree

    plain = body.replace(b"\0", b"")  # in UTF-16 it would stand apart
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise DeliveryError(f"delivery `{name}`: {source.url} answers with XML that declares entities: refused")
    features: list[bytes] = []
    matched: int | None = None
    try:
        parser = etree.iterparse(
            BytesIO(body), events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False,
            huge_tree=False,
        )  # fmt: skip
        depth = 0
        for event, element in parser:
            depth += 1 if event == "start" else -1
            local = etree.QName(element).localname
            if depth == 1 and event == "start":
                if local == "ExceptionReport":
                    raise DeliveryError(
                        f"delivery `{name}`: {source.url} refuses the question: check `layer` and `output`"
                    )
                if local != "FeatureCollection":
                    raise DeliveryError(
                        f"delivery `{name}`: {source.url} answers with `{local[:40]}`, not with features"
                    )
                said = element.get("numberMatched", "")
                matched = int(said) if said.isdecimal() else None
            elif depth == 1 and event == "end" and local in _GML_MEMBERS:
                features += [_feature(item) for item in element]
                element.clear()
    except (etree.XMLSyntaxError, ValueError):
        raise DeliveryError(
            f"delivery `{name}`: {source.url} answers with XML that is cut off or no GML: the next run tries again"
        ) from None
    return b",\n".join(features), len(features), matched


def _feature(element: Any) -> bytes:
    """A GML feature as GeoJSON: its plain elements as properties, its first point as geometry."""
    from lxml import etree

    properties: dict[str, str | None] = {}
    geometry = None
    for child in element:
        local = etree.QName(child).localname
        if not len(child):
            properties[local] = child.text
            continue
        position = next(child.iter("{*}pos"), None)
        if position is not None and geometry is None:
            holder = next((one for one in (position, *position.iterancestors()) if one.get("srsName")), None)
            numbers = [float(part) for part in (position.text or "").split()[:2]]
            # by its own rules EPSG:4326 has the latitude first where it is named by URN; GeoJSON never has
            first_latitude = holder is not None and str(holder.get("srsName")).endswith(("EPSG::4326", "EPSG::4258"))
            geometry = {"type": "Point", "coordinates": numbers[::-1] if first_latitude else numbers}
    identity = element.get("{http://www.opengis.net/gml/3.2}id")
    return orjson.dumps({"type": "Feature", "id": identity, "geometry": geometry, "properties": properties})


# --- the wire --------------------------------------------------------------------------------------------------


def _getter(name: str, source: FeatureSource, ca_bundle: Path | None) -> Get:
    """GET with retries, bounded in size, over the proxy of the environment."""
    tls = {"ca_certs": str(ca_bundle)} if ca_bundle else {}
    proxy = urllib.request.getproxies().get(urlsplit(source.url).scheme)
    bypass = urllib.request.proxy_bypass(urlsplit(source.url).hostname or "")
    pool = urllib3.ProxyManager(proxy, **tls) if proxy and not bypass else urllib3.PoolManager(**tls)  # type: ignore[arg-type]
    retries = urllib3.Retry(
        total=source.retries, redirect=0, status_forcelist=_RETRIED, backoff_factor=0.2, raise_on_status=False,
        raise_on_redirect=False,
    )  # fmt: skip

    def get(url: str) -> bytes:
        body = bytearray()
        try:
            answer = pool.request(
                "GET", url, retries=retries, timeout=source.timeout_s, preload_content=False, redirect=False
            )
            for piece in answer.stream(1 << 20, decode_content=True):
                body += piece
                if len(body) > LARGEST_PAGE:
                    answer.close()
                    raise DeliveryError(
                        f"delivery `{name}`: a page of {source.url} is larger than {LARGEST_PAGE >> 20} MB: lower "
                        "`source.page_size`"
                    )
            answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise DeliveryError(
                f"delivery `{name}`: {source.url} does not answer ({type(error).__name__}): the next run tries again"
            ) from None
        if answer.status != 200:
            raise DeliveryError(
                f"delivery `{name}`: {source.url} answers with status {answer.status}: check `url` and `layer`"
            )
        return bytes(body)

    return get
