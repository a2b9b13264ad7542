"""What a user of boto3 does with a function, from creation to deletion, and
whether its typed errors are recognised. Usage: tour.py FUNCTION_ZIP"""
import base64
import hashlib
import json
import sys
import urllib.request

import boto3
from botocore.exceptions import ClientError

client = boto3.client("lambda")
archive = open(sys.argv[1], "rb").read()
ROLE = "arn:aws:iam::123456789012:role/tour"

# The first question of most tools is who they are.
caller = boto3.client("sts").get_caller_identity()
assert caller["Account"] == "123456789012" and caller["Arn"] == "arn:aws:iam::123456789012:root", caller

created = client.create_function(
    FunctionName="boto", Runtime="provided.al2023", Handler="x", Role=ROLE, Code={"ZipFile": archive},
    Environment={"Variables": {"COLOUR": "blue"}}, Tags={"team": "snow"})
assert created["ResponseMetadata"]["HTTPStatusCode"] == 201, created
assert created["State"] == "Pending", created
assert created["CodeSha256"] == base64.b64encode(hashlib.sha256(archive).digest()).decode()
client.get_waiter("function_active_v2").wait(FunctionName="boto", WaiterConfig={"Delay": 1})

answer = client.invoke(FunctionName="boto", Payload=json.dumps({"do": "info"}), LogType="Tail",
                       ClientContext=base64.b64encode(b'{"custom":{"a":1}}').decode())
assert answer["StatusCode"] == 200 and "FunctionError" not in answer, answer
info = json.load(answer["Payload"])
assert "COLOUR=blue" in info["env"], info
assert info["header"]["Lambda-Runtime-Client-Context"] == '{"custom":{"a":1}}', info["header"]
assert b"REPORT RequestId: " + answer["ResponseMetadata"]["RequestId"].encode() in base64.b64decode(answer["LogResult"])

client.update_function_configuration(FunctionName="boto", MemorySize=512, Environment={"Variables": {"COLOUR": "red"}})
client.get_waiter("function_updated_v2").wait(FunctionName="boto", WaiterConfig={"Delay": 1})
info = json.load(client.invoke(FunctionName="boto", Payload='{"do":"info"}')["Payload"])
assert "COLOUR=red" in info["env"] and info["memory"] == "512", info

got = client.get_function(FunctionName="boto")
assert got["Tags"] == {"team": "snow"}, got
with urllib.request.urlopen(got["Code"]["Location"]) as f:
    assert f.read() == archive
names = [f["FunctionName"] for page in client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1}) for f in page["Functions"]]
assert "boto" in names, names

failed = client.invoke(FunctionName="boto", Payload='{"do":"error","arg":"no luck"}')
assert failed["FunctionError"] == "Unhandled" and json.load(failed["Payload"])["errorMessage"] == "no luck"


def refused(exception, call, **kwargs):
    try:
        call(**kwargs)
    except exception as e:
        assert isinstance(e, ClientError)
        return e.response
    raise AssertionError(f"{call.__name__}{kwargs} was not refused")


e = client.exceptions
refused(e.ResourceNotFoundException, client.get_function, FunctionName="nobody")
refused(e.ResourceConflictException, client.create_function, FunctionName="boto", Runtime="provided.al2023",
        Handler="x", Role=ROLE, Code={"ZipFile": archive})
refused(e.InvalidParameterValueException, client.create_function, FunctionName="bad", Runtime="provided.al2023",
        Handler="x", Role=ROLE, Code={"ZipFile": b"not a zip"})
refused(e.PreconditionFailedException, client.update_function_code, FunctionName="boto", ZipFile=archive, RevisionId="old")
refused(e.InvalidRequestContentException, client.invoke, FunctionName="boto", Payload=b"{")
refused(ClientError, client.get_function_scaling_config, FunctionName="boto", Qualifier="$LATEST")

client.delete_function(FunctionName="boto")
refused(e.ResourceNotFoundException, client.invoke, FunctionName="boto")
print("boto3 is content")
