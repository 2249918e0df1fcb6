#!/usr/bin/python3
"""A SPIFFE Workload API for tests: Google's gRPC and protobuf, messages as the standard defines them.

Arguments: the Unix socket, and a JSON file that is read again whenever it changes:
  {"svids": [{"id": ID, "chain": PEM, "key": PEM, "bundle": PEM}], "crl": [PEM],
   "federated": {ID: PEM}, "deny": false, "abort": name of a gRPC status}
Every open stream gets a message with each change. Ends with its parent.
"""
import base64
import json
import os
import re
import sys
import time
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto


def messages():
    """X509SVIDResponse of workloadapi.proto (github.com/spiffe/spiffe, standards)."""
    file = descriptor_pb2.FileDescriptorProto(name="w.proto", package="w", syntax="proto3")
    svid = file.message_type.add(name="X509SVID")
    kinds = [("spiffe_id", FIELD.TYPE_STRING), ("x509_svid", FIELD.TYPE_BYTES),
             ("x509_svid_key", FIELD.TYPE_BYTES), ("bundle", FIELD.TYPE_BYTES),
             ("hint", FIELD.TYPE_STRING)]
    for number, (name, kind) in enumerate(kinds, 1):
        svid.field.add(name=name, number=number, type=kind, label=FIELD.LABEL_OPTIONAL)
    response = file.message_type.add(name="X509SVIDResponse")
    response.field.add(name="svids", number=1, type=FIELD.TYPE_MESSAGE, type_name=".w.X509SVID",
                       label=FIELD.LABEL_REPEATED)
    response.field.add(name="crl", number=2, type=FIELD.TYPE_BYTES, label=FIELD.LABEL_REPEATED)
    entry = response.nested_type.add(name="FederatedBundlesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=FIELD.TYPE_BYTES, label=FIELD.LABEL_OPTIONAL)
    response.field.add(name="federated_bundles", number=3, type=FIELD.TYPE_MESSAGE,
                       type_name=".w.X509SVIDResponse.FederatedBundlesEntry",
                       label=FIELD.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.MessageFactory(pool).GetPrototype(
        pool.FindMessageTypeByName("w.X509SVIDResponse"))


Response = messages()


def der(path):
    text = open(path).read()
    blocks = re.findall(r"-----BEGIN [^-]+-----(.*?)-----END", text, re.S)
    return b"".join(base64.b64decode(block) for block in blocks)


def response(said):
    message = Response()
    for one in said.get("svids", []):
        message.svids.add(spiffe_id=one["id"], x509_svid=der(one["chain"]),
                          x509_svid_key=der(one["key"]), bundle=der(one["bundle"]), hint="internal")
    for path in said.get("crl", []):
        message.crl.append(der(path))
    for name, path in said.get("federated", {}).items():
        message.federated_bundles[name] = der(path)
    return message.SerializeToString()


def fetch(request, context):
    if ("workload.spiffe.io", "true") not in context.invocation_metadata():
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
    assert request == b"", request
    print("call", flush=True)
    last = None
    while context.is_active():
        text = open(sys.argv[2]).read()
        if text != last:
            last = text
            said = json.loads(text)
            if said.get("abort"):
                context.abort(grpc.StatusCode[said["abort"]], "not this call")
            if said.get("deny"):
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
            yield response(said)
        time.sleep(0.02)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(
        "SpiffeWorkloadAPI", {"FetchX509SVID": grpc.unary_stream_rpc_method_handler(fetch)})])
    server.add_insecure_port("unix:" + sys.argv[1])
    server.start()
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.1)


main()
