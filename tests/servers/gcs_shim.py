"""XML calls for a fake-gcs-server, which understands JSON ones, as `gcs_shim.py PORT TARGET`.

A PUT of an object becomes an upload of two parts: `uploadType=media` would ignore the condition. A GET on condition of a tag is
not checked (the server knows none there). All else is passed on as it came.
"""

import json
import sys
from collections.abc import AsyncIterator
from urllib.parse import quote, unquote

import aiohttp
from aiohttp import web

BOUNDARY = "zarrant-shim-7d1f0a"
NOT_PASSED_ON = {"host", "content-length", "transfer-encoding", "connection"}
SESSION = web.AppKey("session", aiohttp.ClientSession)


async def handle(request: web.Request) -> web.Response:
    """Answer one request."""
    body = await request.read()
    if request.method == "PUT" and not request.query_string:
        return await _upload(request, body)
    headers = {name: value for name, value in request.headers.items() if name.lower() not in NOT_PASSED_ON}
    url = f"{sys.argv[2]}{request.raw_path}"
    async with request.app[SESSION].request(request.method, url, data=body, headers=headers, allow_redirects=False) as reply:
        answer = await reply.read()
        kept = {name: value for name, value in reply.headers.items() if name.lower() not in NOT_PASSED_ON}
        if request.method == "HEAD":
            kept["Content-Length"] = reply.headers.get("Content-Length", "0")
            answer = b""
        return web.Response(status=reply.status, body=answer, headers=kept)


async def _upload(request: web.Request, body: bytes) -> web.Response:
    _, bucket, key = request.raw_path.split("/", 2)
    metadata = {
        name[len("x-goog-meta-") :]: value for name, value in request.headers.items() if name.lower().startswith("x-goog-meta-")
    }
    about = json.dumps({"name": unquote(key), "contentType": "application/octet-stream", "metadata": metadata}).encode()
    query = f"uploadType=multipart&name={quote(unquote(key), safe='')}"
    if (generation := request.headers.get("x-goog-if-generation-match")) is not None:
        query += f"&ifGenerationMatch={generation}"
    mark = f"--{BOUNDARY}".encode()
    parts = (
        mark + b"\r\nContent-Type: application/json\r\n\r\n" + about + b"\r\n" + mark,
        b"\r\nContent-Type: application/octet-stream\r\n\r\n" + body + b"\r\n" + mark + b"--\r\n",
    )
    url = f"{sys.argv[2]}/upload/storage/v1/b/{bucket}/o?{query}"
    headers = {"Content-Type": f"multipart/related; boundary={BOUNDARY}"}
    async with request.app[SESSION].post(url, data=b"".join(parts), headers=headers) as reply:
        if reply.status != 200:
            return web.Response(status=reply.status, body=await reply.read())
        stored = await reply.json()
    tag = '"' + stored["etag"].strip('"') + '"'
    return web.Response(headers={"ETag": tag, "x-goog-generation": str(stored["generation"])})


async def _session(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100), auto_decompress=False) as app[SESSION]:
        yield


if __name__ == "__main__":
    app = web.Application(client_max_size=1 << 30)
    app.cleanup_ctx.append(_session)
    app.router.add_route("*", "/{rest:.*}", handle)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
