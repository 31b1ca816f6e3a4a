"""As much of W&B's server as an upload needs, on loopback: it keeps what it is sent, to be looked at.

W&B's own server is not public; this answers what its client asks (GraphQL by the operation's name, files, rows).
"""

import gzip
import json
import re
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml


class WandbServer(ThreadingHTTPServer):
    """Runs by id, each with what was sent for it.

    Attributes:
        runs: id → the bucket's input, merged; ``config`` parsed.
        rows: id → file → its lines by offset, so that one sent twice is there once.
        files: path → bytes, as uploaded.
        sweep_config: YAML of the one sweep that agents work on.
        commands: what agents are told next, one a heartbeat, ``exit`` where none is left; of a new sweep, a run of the
            least values.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs, self.rows = defaultdict(dict), defaultdict(lambda: defaultdict(dict))
        self.files, self.artifacts, self.unknown = {}, [], []
        self.sweep_config, self.commands = "", []
        self.lock = threading.Lock()

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def history(self, run):
        """Rows of a run, in the order in which W&B would keep them."""
        return [json.loads(line) for _, line in sorted(self.rows[run]["wandb-history.jsonl"].items())]

    def summary(self, run):
        lines = sorted(self.rows[run]["wandb-summary.json"].items())
        return json.loads(lines[-1][1]) if lines else json.loads(self.runs[run].get("summaryMetrics") or "{}")

    def answer(self, query, variables):
        """Data of one GraphQL operation; of one that is not known, nothing."""
        name = re.search(r"(?:query|mutation)\s+(\w+)", query)
        method = getattr(self, f"_{name[1]}", None) if name else None
        if method is None:
            self.unknown.append((name and name[1], query, variables))
            return {}
        return method(variables)

    def _bucket(self, run):
        own, rows = self.runs[run], self.rows[run]
        return {
            "id": f"id-{run}",
            "name": run,
            "displayName": own.get("displayName"),
            "sweepName": own.get("sweep"),
            "summaryMetrics": json.dumps(self.summary(run)),
            "logLineCount": 0,
            "historyLineCount": len(rows["wandb-history.jsonl"]),
            "eventsLineCount": len(rows["wandb-events.jsonl"]),
            "historyTail": json.dumps([line for _, line in sorted(rows["wandb-history.jsonl"].items())][-1:]),
            "eventsTail": "[]",
            "config": own.get("config") or "{}",
            "tags": own.get("tags") or [],
            "wandbConfig": "{}",
            "project": _PROJECT,
        }

    def _RunResumeStatus(self, variables):
        known = variables["name"] in self.runs
        return {"model": {**_PROJECT, "bucket": self._bucket(variables["name"]) if known else None}}

    def _UpsertBucket(self, variables):
        run = variables["name"] or variables["id"].removeprefix("id-")
        inserted = run not in self.runs
        self.runs[run] |= {key: value for key, value in variables.items() if value is not None}
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}

    def _CreateRunFiles(self, variables):
        files = [{"name": name, "uploadUrl": self._place(f"{variables['run']}/{name}")} for name in variables["files"]]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    def _ServerFeaturesQuery(self, variables):
        return {"serverInfo": {"features": []}}

    def _Viewer(self, variables):
        return {"viewer": {"entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}}

    def _UpsertSweep(self, variables):
        self.sweep_config = variables["config"]
        asked = {key: {"value": one["min"]} for key, one in yaml.safe_load(variables["config"])["parameters"].items()}
        self.commands = [{"type": "run", "run_id": "asked", "program": "vqclip", "args": asked}]
        return {"upsertSweep": {"sweep": {"name": "s1", "project": _PROJECT}, "configValidationWarnings": []}}

    def _SweepWithRuns(self, variables):
        sweep = {"id": "s1", "name": variables["sweep"], "state": "RUNNING", "config": self.sweep_config}
        return {"project": {"sweep": {**sweep, "runs": {"edges": []}}}}

    def _CreateAgent(self, variables):
        return {"createAgent": {"agent": {"id": "agent1"}}}

    def _Heartbeat(self, variables):
        idle = not any(json.loads(variables.get("runState") or "{}").values())
        command = (self.commands.pop(0) if self.commands else {"type": "exit"}) if idle else None
        return {"agentHeartbeat": {"agent": {"id": "agent1"}, "commands": json.dumps([command] if command else [])}}

    def _NotifyScriptableRunAlert(self, variables):
        return {"notifyScriptableRunAlert": {"success": True}}

    def _OrganizationCoreWeaveOrganizationID(self, variables):
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _ArtifactType(self, variables):
        known = [own["type"] for own in self.artifacts if own["name"] == variables["name"].partition(":")[0]]
        return {"project": {"artifact": {"artifactType": {"name": known[0]}} if known else None}}

    def _CreateArtifact(self, variables):
        asked, number = variables["input"], len(self.artifacts)
        known = [own for own in self.artifacts if own["name"] == asked["artifactCollectionName"]]
        same = [own for own in known if own["digest"] == asked["digest"]]
        own = same[0] if same else {"id": f"a{number}", "state": "PENDING", "files": {}, "used by": set()}
        if not same:
            self.artifacts.append(own)
        own |= {"name": asked["artifactCollectionName"], "digest": asked["digest"], "metadata": asked["metadata"]}
        own |= {"type": asked["artifactTypeName"], "run": own.get("run") or asked["runName"]}
        shown = {"id": own["id"], "state": own["state"], "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": shown}}

    def _CreateArtifactFiles(self, variables):
        nodes = []
        for asked in variables["input"]["artifactFiles"]:
            place = f"artifacts/{asked['artifactID']}/{asked['name']}"
            node = {"id": place, "name": asked["name"], "displayName": asked["name"], "storagePath": place}
            node |= {"uploadUrl": self._place(place), "uploadHeaders": [], "uploadMultipartUrls": None}
            nodes.append({"node": node | {"artifact": {"id": asked["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def _CreateArtifactManifest(self, variables):
        place = f"artifacts/{variables['artifactID']}/{variables['name']}"
        file = {"id": place, "name": variables["name"], "displayName": variables["name"]}
        file |= {"uploadUrl": self._place(place), "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": variables["artifactID"], "file": file}}}

    def _UpdateArtifactManifest(self, variables):
        named = {"artifactID": variables["artifactManifestID"], "name": "wandb_manifest.json"}
        return {"updateArtifactManifest": self._CreateArtifactManifest(named)["createArtifactManifest"]}

    def _CommitArtifact(self, variables):
        self._artifact(variables["artifactID"])["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": ""}}}

    def _UseArtifact(self, variables):
        asked = variables["input"]
        self._artifact(asked["artifactID"])["used by"].add(asked["runName"])
        return {"useArtifact": {"artifact": {"id": asked["artifactID"]}}}

    def _artifact(self, id):
        return next(own for own in self.artifacts if own["id"] == id)

    def _place(self, path):
        return f"{self.url}/upload/{path}"


_PROJECT = {"id": "p1", "name": "vqclip", "entity": {"id": "e1", "name": "me"}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _body(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self._send({})

    def do_POST(self):
        body = self._body()
        with self.server.lock:
            self._send(self._answer(body))

    do_PUT = do_POST

    def _answer(self, body):
        server = self.server
        if self.path.startswith("/upload/"):
            server.files[self.path.removeprefix("/upload/")] = body
        elif self.path.endswith("/graphql"):
            asked = json.loads(body)
            return {"data": server.answer(asked["query"], asked.get("variables") or {})}
        elif found := re.search(r"/([^/]+)/file_stream$", self.path):
            for name, chunk in (json.loads(body).get("files") or {}).items():
                for i, line in enumerate(chunk["content"]):
                    server.rows[found[1]][name][chunk["offset"] + i] = line
        return {}
