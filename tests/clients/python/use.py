"""Uses a cluster by the three clients that Python knows, and prints what each saw.

usage: use.py CLIENT KUBECONFIG NAMESPACE PORT

The namespace has a pod `web` and a Secret `db`; whatever is sent to PORT through the pod comes back. What is printed is the same for everybody who may do the same.
"""

import sys

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "of-python", "labels": {"of": "python"}}, "data": {"key": "before"}}
COMMAND = ["sh", "-c", "echo out; echo err >&2; cat /dev/null; exit 3"]


def say(what, *values):
    print(what, *values, flush=True)


def official(kubeconfig, namespace, port):
    from kubernetes import client, config, watch
    from kubernetes.stream import portforward, stream

    config.load_kube_config(kubeconfig)
    core = client.CoreV1Api()
    say("pods", [pod.metadata.name for pod in core.list_namespaced_pod(namespace, limit=1).items])
    say("secret", sorted(core.read_namespaced_secret("db", namespace).data.items()))
    try:
        core.read_namespaced_pod("nobody", namespace)
    except client.ApiException as error:
        say("missing", error.status, error.reason)
    core.create_namespaced_config_map(namespace, MAP)
    version = core.list_namespaced_config_map(namespace).metadata.resource_version
    patched = core.patch_namespaced_config_map("of-python", namespace, {"data": {"key": "after"}})
    say("patched", patched.data)
    core.delete_namespaced_config_map("of-python", namespace)
    seen = []
    watched = watch.Watch().stream(core.list_namespaced_config_map, namespace, label_selector="of=python", resource_version=version, timeout_seconds=20)
    for event in watched:
        seen.append((event["type"], event["object"].data["key"]))
        if event["type"] == "DELETED":
            break
    say("watch", seen)
    say("log", core.read_namespaced_pod_log("web", namespace, tail_lines=2).splitlines())
    ran = stream(core.connect_get_namespaced_pod_exec, "web", namespace, command=COMMAND, stdout=True, stderr=True, _preload_content=False)
    ran.run_forever(timeout=20)
    say("exec", ran.read_stdout(), ran.read_stderr(), ran.returncode)
    typed = stream(core.connect_get_namespaced_pod_exec, "web", namespace, command=["head", "-n", "1"], stdin=True, stdout=True, _preload_content=False)
    typed.write_stdin("typed by python\n")
    typed.run_forever(timeout=20)
    say("typed", typed.read_stdout())
    forwarded = portforward(core.connect_get_namespaced_pod_portforward, "web", namespace, ports=str(port)).socket(port)
    forwarded.settimeout(20)
    forwarded.sendall(b"there and back")
    say("port-forward", forwarded.recv(100))
    reviews = client.AuthorizationV1Api()
    of = client.V1ResourceAttributes(verb="get", resource="pods", namespace=namespace)
    review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=of))
    say("may", reviews.create_self_subject_access_review(review).status.allowed)


def kr8s(kubeconfig, namespace, port):
    import kr8s as library
    from kr8s.objects import ConfigMap, Pod

    api = library.api(kubeconfig=kubeconfig, namespace=namespace)
    say("pods", [pod.name for pod in api.get("pods", namespace=namespace)])
    say("secret", sorted(next(iter(api.get("secrets", "db", namespace=namespace))).raw["data"].items()))
    made = ConfigMap(MAP | {"metadata": MAP["metadata"] | {"namespace": namespace, "name": "of-kr8s"}}, api=api)
    made.create()
    made.patch({"data": {"key": "after"}})
    made.refresh()
    say("patched", made.raw["data"])
    made.delete()
    pod = Pod.get("web", namespace=namespace, api=api)
    say("ready", pod.ready())
    say("log", list(pod.logs(tail_lines=2)))
    ran = pod.exec(COMMAND, check=False, capture_output=True)
    say("exec", ran.stdout, ran.stderr, ran.returncode)
    try:
        Pod.get("nobody", namespace=namespace, api=api, timeout=1)
    except library.NotFoundError:
        say("missing")


def lightkube(kubeconfig, namespace, port):
    from lightkube import Client, KubeConfig
    from lightkube.core.exceptions import ApiError
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap, Pod, Secret
    from lightkube.types import PatchType

    client = Client(config=KubeConfig.from_file(kubeconfig).get(), namespace=namespace, field_manager="suite")
    say("pods", [pod.metadata.name for pod in client.list(Pod)])
    say("secret", sorted(client.get(Secret, "db").data.items()))
    client.create(ConfigMap(metadata=ObjectMeta(name="of-lightkube", namespace=namespace, labels={"of": "lightkube"}), data={"key": "before"}))
    say("patched", client.patch(ConfigMap, "of-lightkube", {"data": {"key": "after"}}, patch_type=PatchType.MERGE).data)
    applied = client.apply(ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="of-lightkube", namespace=namespace), data={"key": "applied"}), force=True)
    say("applied", applied.data)
    for kind, found in client.watch(ConfigMap, labels={"of": "lightkube"}):
        say("watch", kind, found.data)
        break
    client.delete(ConfigMap, "of-lightkube")
    say("log", [line.rstrip() for line in client.log("web", tail_lines=2)])
    try:
        client.get(Pod, "nobody")
    except ApiError as error:
        say("missing", error.status.code, error.status.reason)


{"kubernetes": official, "kr8s": kr8s, "lightkube": lightkube}[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))
