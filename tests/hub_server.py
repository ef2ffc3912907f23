"""A model hub for tests on 127.0.0.1, with the part of the HTTP interface that huggingface_hub uses."""

import base64
import hashlib
import json
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "a-token-of-the-tests"


class Hub:
    """The content of the hub.

    Attributes:
        repos: OWNER/NAME -> commits, oldest first, each file name -> bytes.
        private: repositories that need the token.
        large: sha256 -> contents that are uploaded separately from a commit.
        asked: method and path of each request.
        tokens: token of each request.
        declared: file name -> wrong size for listings.
        elsewhere: address of another server, to which requests for files are redirected.
        slow: seconds to wait before each byte of a file.
        failing: (status, message) of all answers of a hub that fails.
    """

    def __init__(self):
        self.repos: dict[str, list[dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.declared: dict[str, int | None] = {}
        self.elsewhere: str | None = None
        self.slow = 0.0
        self.failing: tuple[int, str] | None = None
        self.url = ""

    def put(self, repo, files):
        """Add a commit with these files only."""
        self.repos.setdefault(repo, [{}]).append(dict(files))

    def commit_id(self, repo, number):
        return hashlib.sha1(f"{repo} {number}".encode()).hexdigest()

    def at(self, repo, revision):
        """(commit, its files) of a branch, a commit or a number; None for unknown ones."""
        commits = self.repos[repo]
        for number in range(len(commits)):
            if revision in (self.commit_id(repo, number), f"v{number}"):
                return self.commit_id(repo, number), commits[number]
        return (self.commit_id(repo, len(commits) - 1), commits[-1]) if revision == "main" else None

    def commit(self, repo, lines):
        files = dict(self.repos[repo][-1])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.repos[repo].append(files)


@contextmanager
def hub_server():
    """A running hub."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *args):
        pass

    def __getattr__(self, name):
        if name in ("do_GET", "do_HEAD", "do_POST", "do_PUT"):
            return self._handle
        raise AttributeError(name)

    def _handle(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        self.hub.tokens.append(self.headers.get("Authorization"))
        if self.hub.failing:
            return self._refuse(*self.hub.failing)
        parts = path.strip("/").split("/")
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.command == "POST" and path != "/api/validate-yaml" and not known:
            return self._refuse(401, "Invalid credentials in Authorization header")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if parts[0] == "upload":
            self.hub.large[parts[1]] = body
            return self._json({})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        api = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if api else parts[:2])
        if repo not in self.hub.repos or (repo in self.hub.private and not known):
            return self._refuse(404, "Repository not found", "RepoNotFound")
        return self._model(repo, parts[4:], body) if api else self._resolve(repo, parts[3], "/".join(parts[4:]))

    def _create(self, wanted):
        repo = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
        if not repo.startswith("owner/"):
            return self._refuse(403, "You don't have the rights to create a model under this namespace")
        if repo in self.hub.repos:
            return self._refuse(409, "You already created this model repo")
        self.hub.repos[repo] = [{}]
        if wanted.get("private") or wanted.get("visibility") == "private":
            self.hub.private.add(repo)
        self._json({"url": f"{self.hub.url}/{repo}", "name": repo, "id": repo})

    def _model(self, repo, rest, body):
        verb, revision = rest[:2] or ("revision", "main")
        if (found := self.hub.at(repo, revision)) is None:
            return self._refuse(404, "Invalid rev id", "RevisionNotFound")
        commit, files = found
        if verb == "revision":
            sizes = {name: self.hub.declared.get(name, len(content)) for name, content in files.items()}
            names = [{"rfilename": name, "size": size} for name, size in sizes.items()]
            return self._json({"id": repo, "modelId": repo, "sha": commit, "private": False, "siblings": names})
        if verb == "tree":
            return self._json([self._entry(name, content) for name, content in files.items()])
        if verb == "preupload":
            wanted = [file["path"] for file in json.loads(body)["files"]]
            modes = [(name, "lfs" if name.endswith(".safetensors") else "regular") for name in wanted]
            return self._json({"files": [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in modes]})
        assert verb == "commit", verb
        lines = [json.loads(line) for line in body.splitlines()]
        if lines[0]["value"].get("parentCommit") not in (None, commit):
            return self._refuse(412, "A commit has happened since")
        self.hub.commit(repo, lines)
        made = self.hub.commit_id(repo, len(self.hub.repos[repo]) - 1)
        self._json({"success": True, "commitOid": made, "commitUrl": f"{self.hub.url}/{repo}/commit/{made}"})

    def _entry(self, name, content):
        entry = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        if name.endswith(".safetensors"):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
        return entry

    def _batch(self, wanted):
        objects = []
        for item in wanted["objects"]:
            missing = item["oid"] not in self.hub.large
            action = {"actions": {"upload": {"href": f"{self.hub.url}/upload/{item['oid']}"}}} if missing else {}
            objects.append({"oid": item["oid"], "size": item["size"], **action})
        self._json({"transfer": "basic", "objects": objects})

    def _resolve(self, repo, revision, name):
        commit, files = self.hub.at(repo, revision)
        if name not in files:
            return self._refuse(404, "Entry not found", "EntryNotFound")
        if self.hub.elsewhere:
            return self._answer(302, b"", {"Location": f"{self.hub.elsewhere}{self.path}"})
        tag = f'"{hashlib.sha256(files[name]).hexdigest()}"'
        self._answer(200, files[name], {"ETag": tag, "X-Repo-Commit": commit})

    def _chunks(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, value):
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status, message, code=None):
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._answer(status, json.dumps({"error": message}).encode(), {**headers, "Content-Type": "application/json"})

    def _answer(self, status, content, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send(content, 0 if "X-Repo-Commit" not in headers else self.hub.slow)

    def _send(self, content, pause):
        with suppress(ConnectionError):  # the client had enough
            for start in range(0, len(content), 1 if pause else len(content)):
                time.sleep(pause)
                self.wfile.write(content[start : start + 1] if pause else content)
