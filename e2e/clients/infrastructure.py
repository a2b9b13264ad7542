"""What tools that describe infrastructure do with a function and all that hangs
on it: they create, wait, read back, change, take settings away by their empty
forms, and delete twice. What they read must be what they wrote, or they would
want to change it for ever. Usage: infrastructure.py FUNCTION_ZIP"""
import json
import platform
import sys

import boto3

client = boto3.client("lambda")
archive = open(sys.argv[1], "rb").read()
ROLE, NAME = "arn:aws:iam::123456789012:role/deploy", "infra"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:" + NAME
HOST = ["arm64" if platform.machine() == "aarch64" else "x86_64"]
gone = client.exceptions.ResourceNotFoundException


def waited(waiter):
    client.get_waiter(waiter).wait(FunctionName=NAME, WaiterConfig={"Delay": 1})


def read(call, **kwargs):
    answer = call(**kwargs)
    answer.pop("ResponseMetadata")
    return answer


def absent(call, exception=gone, **kwargs):
    try:
        call(**kwargs)
    except exception:
        return
    raise AssertionError(f"{call.__name__} {kwargs} found something")


# Before everything else: who am I, and is it there already?
assert boto3.client("sts").get_caller_identity()["Account"] == "123456789012"
absent(client.get_function, FunctionName=NAME)

# A function with every setting at its default, each of them said.
client.create_function(
    FunctionName=NAME, Runtime="provided.al2023", Handler="x", Role=ROLE, Code={"ZipFile": archive}, Description="",
    MemorySize=128, Timeout=3, PackageType="Zip", Publish=False, Architectures=HOST, Tags={"a": "b"})
waited("function_active_v2")
got = client.get_function(FunctionName=NAME)
config = got["Configuration"]
assert (config["State"], config["LastUpdateStatus"]) == ("Active", "Successful"), config
assert (config["Description"], config["MemorySize"], config["Timeout"]) == ("", 128, 3), config
assert config["TracingConfig"] == {"Mode": "PassThrough"} and config["EphemeralStorage"] == {"Size": 512}, config
assert config["SnapStart"]["ApplyOn"] == "None" and config["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/aws/lambda/" + NAME}, config
assert got["Tags"] == {"a": "b"} and "Concurrency" not in got and "SourceKMSKeyArn" not in got["Code"], got
for unset in "DeadLetterConfig", "Environment", "VpcConfig", "KMSKeyArn", "FileSystemConfigs", "Layers", "ImageConfigResponse":
    assert unset not in config, config
assert "CodeSigningConfigArn" not in client.get_function_code_signing_config(FunctionName=NAME)

# The newest version is the last of the list, which begins with $LATEST.
versions = client.list_versions_by_function(FunctionName=NAME, MaxItems=10000)
assert [v["FunctionArn"] for v in versions["Versions"]] == [ARN + ":$LATEST"] and "NextMarker" not in versions, versions

# Settings, and the forms that take them away again.
layer = client.publish_layer_version(LayerName="infra", Content={"ZipFile": archive}, Description="", LicenseInfo="")
for member, given, taken, rest in [
    ("DeadLetterConfig", {"TargetArn": "arn:aws:sqs:us-east-1:123456789012:q"}, {"TargetArn": ""}, None),
    ("Environment", {"Variables": {"AB": "c"}}, {"Variables": {}}, None),
    ("Layers", [layer["LayerVersionArn"]], [], None),
    ("TracingConfig", {"Mode": "Active"}, {"Mode": "PassThrough"}, {"Mode": "PassThrough"}),
    ("EphemeralStorage", {"Size": 1024}, {"Size": 512}, {"Size": 512}),
    ("LoggingConfig", {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "WARN", "LogGroup": "/own"},
     {"LogFormat": "Text", "LogGroup": "/aws/lambda/" + NAME}, {"LogFormat": "Text", "LogGroup": "/aws/lambda/" + NAME}),
    ("Description", "words", "", ""),
    ("VpcConfig", None, {"Ipv6AllowedForDualStack": False, "SubnetIds": [], "SecurityGroupIds": []}, None),
    ("FileSystemConfigs", None, [], None),
    ("KMSKeyArn", None, "", None),
    ("ImageConfig", None, {}, None),
]:
    for value, want in (given, given), (taken, rest):
        if value is None:
            continue
        client.update_function_configuration(FunctionName=NAME, **{member: value})
        waited("function_updated_v2")
        now = client.get_function(FunctionName=NAME)["Configuration"].get(member)
        if member == "Layers" and now:
            now = [l["Arn"] for l in now]
        assert now == want, (member, value, now)

client.put_function_concurrency(FunctionName=NAME, ReservedConcurrentExecutions=2)
assert client.get_function(FunctionName=NAME)["Concurrency"] == {"ReservedConcurrentExecutions": 2}
client.delete_function_concurrency(FunctionName=NAME)
assert read(client.get_function_concurrency, FunctionName=NAME) == {}

# A version is asked for by its own ARN and its number at once.
version = client.publish_version(FunctionName=NAME)
status = client.get_function_configuration(FunctionName=version["FunctionArn"], Qualifier=version["Version"])
assert status["LastUpdateStatus"] == "Successful" and status["FunctionArn"] == ARN + ":1", status
client.update_function_code(FunctionName=NAME, ZipFile=archive, Architectures=HOST)
waited("function_updated_v2")
client.update_function_configuration(FunctionName=NAME, Timeout=4)
waited("function_updated_v2")
assert client.publish_version(FunctionName=NAME)["Version"] == "2"
assert [v["Version"] for v in client.list_versions_by_function(FunctionName=NAME, MaxItems=10000)["Versions"]] == ["$LATEST", "1", "2"]

# An alias, its weights and none again.
absent(client.update_alias, FunctionName=NAME, Name="live", FunctionVersion="1")
client.create_alias(FunctionName=NAME, Name="live", FunctionVersion="1", Description="", RoutingConfig={})
assert "RoutingConfig" not in client.get_alias(FunctionName=NAME, Name="live")
client.update_alias(FunctionName=NAME, Name="live", FunctionVersion="1", Description="", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
assert client.get_alias(FunctionName=ARN, Name="live")["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.5}}
client.update_alias(FunctionName=NAME, Name="live", FunctionVersion="1", Description="", RoutingConfig={})
assert "RoutingConfig" not in client.get_alias(FunctionName=NAME, Name="live")

# Provisioned concurrency: the requested number is what is compared.
nothing = client.exceptions.ProvisionedConcurrencyConfigNotFoundException
absent(client.get_provisioned_concurrency_config, nothing, FunctionName=NAME, Qualifier="live")
client.put_provisioned_concurrency_config(FunctionName=NAME, Qualifier="live", ProvisionedConcurrentExecutions=1)
assert client.get_provisioned_concurrency_config(FunctionName=NAME, Qualifier="live")["RequestedProvisionedConcurrentExecutions"] == 1
client.delete_provisioned_concurrency_config(FunctionName=NAME, Qualifier="live")
absent(client.get_provisioned_concurrency_config, nothing, FunctionName=NAME, Qualifier="live")

# Permissions are found in the policy by their statement; the last one takes the policy with it.
client.add_permission(FunctionName=NAME, StatementId="bucket", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com",
                      SourceArn="arn:aws:s3:::b", SourceAccount="123456789012", Qualifier="live")
statement, = json.loads(client.get_policy(FunctionName=NAME, Qualifier="live")["Policy"])["Statement"]
assert statement == {
    "Sid": "bucket", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "lambda:InvokeFunction",
    "Resource": ARN + ":live", "Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"}, "StringEquals": {"AWS:SourceAccount": "123456789012"}},
}, statement
absent(client.get_policy, FunctionName=NAME)
client.remove_permission(FunctionName=NAME, StatementId="bucket", Qualifier="live")
absent(client.get_policy, FunctionName=NAME, Qualifier="live")
absent(client.remove_permission, FunctionName=NAME, StatementId="bucket", Qualifier="live")

# A function URL. Its identity is the first label of its host; an empty Cors is none.
cors = {"AllowCredentials": False, "AllowMethods": ["*"], "AllowOrigins": ["https://example.com"], "MaxAge": 10}
url = client.create_function_url_config(FunctionName=NAME, AuthType="NONE", InvokeMode="BUFFERED", Cors=cors)["FunctionUrl"]
assert client.get_function_url_config(FunctionName=NAME)["Cors"] == cors
client.update_function_url_config(FunctionName=NAME, Cors={})
found = client.get_function_url_config(FunctionName=NAME)
assert "Cors" not in found and found["FunctionUrl"] == url and found["InvokeMode"] == "BUFFERED", found
client.delete_function_url_config(FunctionName=NAME)
absent(client.delete_function_url_config, FunctionName=NAME)

# Asynchronous invocations: what was not said is not told.
client.put_function_event_invoke_config(FunctionName=NAME, MaximumRetryAttempts=2)
found = client.get_function_event_invoke_config(FunctionName=NAME)
assert found["MaximumRetryAttempts"] == 2 and "MaximumEventAgeInSeconds" not in found, found
assert not any(found.get("DestinationConfig", {}).values()), found
client.delete_function_event_invoke_config(FunctionName=NAME)
absent(client.get_function_event_invoke_config, FunctionName=NAME)

# What has a default is put back to it and not deleted.
client.put_function_recursion_config(FunctionName=NAME, RecursiveLoop="Allow")
assert client.get_function_recursion_config(FunctionName=NAME)["RecursiveLoop"] == "Allow"
client.put_function_recursion_config(FunctionName=NAME, RecursiveLoop="Terminate")
client.put_runtime_management_config(FunctionName=NAME, UpdateRuntimeOn="Auto")
assert client.get_runtime_management_config(FunctionName=NAME)["UpdateRuntimeOn"] == "Auto"

client.untag_resource(Resource=ARN, TagKeys=["a"])
client.tag_resource(Resource=ARN, Tags={"k": ""})
assert client.list_tags(Resource=ARN)["Tags"] == {"k": ""}

# Layers: read as written, shared with an account, and deleted as often as one likes.
number = layer["Version"]
found = client.get_layer_version(LayerName="infra", VersionNumber=number)
assert found["Content"]["CodeSha256"] == layer["Content"]["CodeSha256"] and not found.get("Description") and not found.get("LicenseInfo"), found
client.add_layer_version_permission(LayerName="infra", VersionNumber=number, Action="lambda:GetLayerVersion", Principal="210987654321", StatementId="x")
statement, = json.loads(client.get_layer_version_policy(LayerName="infra", VersionNumber=number)["Policy"])["Statement"]
assert statement["Principal"] == {"AWS": "arn:aws:iam::210987654321:root"} and statement["Action"] == "lambda:GetLayerVersion", statement
client.remove_layer_version_permission(LayerName="infra", VersionNumber=number, StatementId="x")
absent(client.get_layer_version_policy, LayerName="infra", VersionNumber=number)
client.delete_layer_version(LayerName="infra", VersionNumber=number)
client.delete_layer_version(LayerName="infra", VersionNumber=number)
absent(client.get_layer_version, LayerName="infra", VersionNumber=number)

client.delete_alias(FunctionName=NAME, Name="live")
client.delete_alias(FunctionName=NAME, Name="live")
absent(client.get_alias, FunctionName=NAME, Name="live")
client.delete_function(FunctionName=NAME)
absent(client.get_function, FunctionName=NAME)
absent(client.delete_function, FunctionName=NAME)
print("what was written is what is read")
