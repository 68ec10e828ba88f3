"""A small stand-in for a cluster's API server on the loopback: as much as ``kubectl`` asks for deployments.

It is no cluster. It keeps deployments as they are applied, and plays their controller: pods of an image whose tag is
marked as bad never become ready. What is checked against it is the deployer and the real ``kubectl``, not Kubernetes.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]
APPS = "/apis/apps/v1"
KIND = {"group": "apps", "version": "v1", "kind": "Deployment"}
RESOURCES = [
    {
        "name": "deployments",
        "namespaced": True,
        "kind": "Deployment",
        "verbs": ["get", "list", "patch", "create", "watch"],
    },
    {
        "name": "deployments/scale",
        "namespaced": True,
        "group": "autoscaling",
        "version": "v1",
        "kind": "Scale",
        "verbs": ["get", "patch", "update"],
    },
]
_DRY_RUN = {"name": "dryRun", "in": "query"}
SCHEMA: Json = {
    "openapi": "3.0.0",
    "info": {"title": "stand-in", "version": "0"},
    "paths": {
        f"{APPS}/namespaces/{{namespace}}/deployments/{{name}}": {
            "patch": {
                "parameters": [_DRY_RUN, {"name": "fieldValidation", "in": "query"}],
                "x-kubernetes-group-version-kind": KIND,
                "responses": {},
            }
        }
    },
    "components": {
        "schemas": {"io.k8s.api.apps.v1.Deployment": {"type": "object", "x-kubernetes-group-version-kind": [KIND]}}
    },
}


class Cluster:
    """The deployments, and what became of them."""

    def __init__(self) -> None:
        self.deployments: dict[str, Json] = {}
        #: Tags of images whose pods never become ready.
        self.bad: set[str] = set()
        #: The images that were applied, in order.
        self.applied: list[str] = []
        self.changed = threading.Condition()
        self._version = 0

    def put(self, new: Json, *, dry: bool) -> Json:
        """Take a deployment as it is to be."""
        name = new["metadata"]["name"]
        before = self.deployments.get(name)
        new = copy.deepcopy(new)
        meta = new["metadata"]
        meta.setdefault("namespace", "default")
        meta.setdefault("uid", f"uid-{name}")
        changed = before is None or before["spec"] != new["spec"]
        meta["generation"] = (before or new)["metadata"].get("generation", 0) + changed
        with self.changed:
            self._version += 1
            meta["resourceVersion"] = str(self._version)
            new["status"] = self._status(new)
            if not dry:
                self.deployments[name] = new
                if changed:
                    self.applied.append(image_of(new))
                self.changed.notify_all()
        return new

    def sicken(self, tag: str) -> None:
        """Let the pods of an image fail from now on."""
        self.bad.add(tag)
        for deployment in list(self.deployments.values()):
            self.put(deployment, dry=False)

    def _status(self, deployment: Json) -> Json:
        wanted = deployment["spec"].get("replicas", 1)
        ready = 0 if image_of(deployment).rpartition(":")[2] in self.bad else wanted
        return {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": wanted,
            "updatedReplicas": wanted,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": [],
        }


def image_of(deployment: Json) -> str:
    """The image of its first container."""
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def merged(base: Any, patch: Any) -> Any:  # noqa: ANN401 - JSON
    """A merge patch; lists of things with names are merged by these, as strategic patches do."""
    if isinstance(base, dict) and isinstance(patch, dict):
        out = dict(base)
        for key, value in patch.items():
            if key.startswith("$"):
                continue
            if value is None:
                out.pop(key, None)
            else:
                out[key] = merged(out.get(key), value)
        return out
    if (
        isinstance(base, list)
        and isinstance(patch, list)
        and all(isinstance(one, dict) and "name" in one for one in patch)
    ):
        named = {one["name"]: one for one in base}
        return [merged(named.get(one["name"]), one) for one in patch]
    return patch


@contextmanager
def running(cluster: Cluster) -> Iterator[str]:
    """Its URL, while it answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, query = self._asked()
        fixed: dict[str, Json] = {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": []},
            "/apis": {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [
                    {
                        "name": "apps",
                        "versions": [{"groupVersion": "apps/v1", "version": "v1"}],
                        "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"},
                    }
                ],
            },
            APPS: {"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": RESOURCES},
            "/openapi/v3": {"paths": {"apis/apps/v1": {"serverRelativeURL": f"/openapi/v3{APPS}"}}},
            f"/openapi/v3{APPS}": SCHEMA,
        }
        if path in fixed:
            self._answer(200, fixed[path])
        elif not path.startswith(f"{APPS}/namespaces/"):
            self._missing(path)
        elif path.endswith("/deployments"):
            self._list(query)
        else:
            self._one(path)

    def do_POST(self) -> None:
        _, query = self._asked()
        self._answer(201, self.cluster.put(self._body(), dry="dryRun" in query))

    def do_PATCH(self) -> None:
        path, query = self._asked()
        name, patch = path.split("/")[7], self._body()
        known = self.cluster.deployments.get(name)
        if known is None:
            self._missing(name)
            return
        new = self.cluster.put(merged(known, patch), dry="dryRun" in query)
        self._answer(200, self._scale(new) if path.endswith("/scale") else new)

    def _one(self, path: str) -> None:
        known = self.cluster.deployments.get(path.split("/")[7])
        if known is None:
            self._missing(path)
        else:
            self._answer(200, self._scale(known) if path.endswith("/scale") else known)

    def _list(self, query: dict[str, list[str]]) -> None:
        name = next((word.partition("=")[2] for word in query.get("fieldSelector", []) if "=" in word), "")
        chosen = [each for each in self.cluster.deployments.values() if name in {"", each["metadata"]["name"]}]
        if "watch" not in query:
            listed = {
                "kind": "DeploymentList",
                "apiVersion": "apps/v1",
                "metadata": {"resourceVersion": "0"},
                "items": chosen,
            }
            self._answer(200, listed)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with self.cluster.changed:
            self.cluster.changed.wait(5)
        for each in chosen:
            self.wfile.write(json.dumps({"type": "MODIFIED", "object": each}).encode() + b"\n")

    @staticmethod
    def _scale(deployment: Json) -> Json:
        replicas = deployment["spec"].get("replicas", 1)
        meta = {key: deployment["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": meta,
            "spec": {"replicas": replicas},
            "status": {"replicas": replicas},
        }

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        return parts.path, parse_qs(parts.query)

    def _body(self) -> Json:
        return dict(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _missing(self, what: str) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        self._answer(404, {**status, "message": f"{what} not found"})

    def _answer(self, status: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
