"""What a user of boto3 looks at after invocations: logs, found and filtered,
and metrics. Usage: observe.py FUNCTION_ZIP"""
import datetime
import json
import sys
import time

import boto3

functions, logs, metrics = boto3.client("lambda"), boto3.client("logs"), boto3.client("cloudwatch")
functions.create_function(
    FunctionName="watched", Runtime="provided.al2023", Handler="x", Role="arn:aws:iam::123456789012:role/tour",
    Code={"ZipFile": open(sys.argv[1], "rb").read()})
functions.get_waiter("function_active_v2").wait(FunctionName="watched", WaiterConfig={"Delay": 1})
for n in range(3):
    functions.invoke(FunctionName="watched", Payload=json.dumps({"print": f"line {n} of the function"}))
functions.invoke(FunctionName="watched", Payload=json.dumps({"do": "error", "arg": "no luck"}))
GROUP = "/aws/lambda/watched"


def until(what, probe, seconds=20):
    """Logs and metrics are stored behind the answer, as on AWS."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(what)


def missing(call, **kwargs):
    try:
        call(**kwargs)
    except logs.exceptions.ResourceNotFoundException:
        return True
    return False


# filter_log_events, by pattern, paged, and by stream.
def filtered(**kwargs):
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=GROUP, **kwargs)
    return [e for page in pages for e in page["events"]]


until("four reports", lambda: logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"] and len(filtered(filterPattern="REPORT")) == 4)
lines = [e["message"].strip() for e in filtered(filterPattern='"of the function"', PaginationConfig={"PageSize": 1})]
assert lines == [f"line {n} of the function" for n in range(3)], lines
reports = filtered(filterPattern="[kind=REPORT, ...]")
assert len(reports) == 4 and all("Billed Duration" in r["message"] for r in reports), reports
streams = [s["logStreamName"] for s in logs.describe_log_streams(logGroupName=GROUP, orderBy="LastEventTime", descending=True)["logStreams"]]
assert filtered(logStreamNames=streams) == filtered()
stream, whole = streams[0], filtered(logStreamNames=streams[:1])

# get_log_events forwards, with the token that comes back at the end.
got = logs.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True)
assert [e["message"] for e in got["events"]] == [e["message"] for e in whole]
again = logs.get_log_events(logGroupName=GROUP, logStreamName=stream, nextToken=got["nextForwardToken"])
assert again["events"] == [] and again["nextForwardToken"] == got["nextForwardToken"]

# A group of one's own.
logs.create_log_group(logGroupName="mine", tags={"team": "snow"})
logs.create_log_stream(logGroupName="mine", logStreamName="s")
now = int(time.time() * 1000)
logs.put_log_events(logGroupName="mine", logStreamName="s", logEvents=[
    {"timestamp": now - 1, "message": '{"level":"warn","ms":12}'}, {"timestamp": now, "message": '{"level":"info","ms":3}'}])
found = logs.filter_log_events(logGroupName="mine", filterPattern='{ $.level = "warn" && $.ms > 10 }')["events"]
assert [json.loads(e["message"])["ms"] for e in found] == [12], found
logs.put_retention_policy(logGroupName="mine", retentionInDays=7)
assert logs.describe_log_groups(logGroupNamePrefix="mine")["logGroups"][0]["retentionInDays"] == 7
logs.delete_log_group(logGroupName="mine")
assert missing(logs.get_log_events, logGroupName="mine", logStreamName="s")

# Metrics of the function.
end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=2)
start = end - datetime.timedelta(minutes=30)
dimensions = [{"Name": "FunctionName", "Value": "watched"}]


def total(name, statistic="Sum"):
    points = metrics.get_metric_statistics(
        Namespace="AWS/Lambda", MetricName=name, Dimensions=dimensions, StartTime=start, EndTime=end,
        Period=3600, Statistics=[statistic])["Datapoints"]
    return sum(p[statistic] for p in points)


until("four invocations", lambda: total("Invocations") == 4)
assert total("Errors") == 1, total("Errors")
assert total("Duration", "Maximum") > 0
answer = metrics.get_metric_data(StartTime=start, EndTime=end, MetricDataQueries=[
    {"Id": "i", "MetricStat": {"Metric": {"Namespace": "AWS/Lambda", "MetricName": "Invocations", "Dimensions": dimensions},
                               "Period": 60, "Stat": "Sum"}, "ReturnData": False},
    {"Id": "e", "MetricStat": {"Metric": {"Namespace": "AWS/Lambda", "MetricName": "Errors", "Dimensions": dimensions},
                               "Period": 60, "Stat": "Sum"}, "ReturnData": False},
    {"Id": "rate", "Expression": "100 * e / i", "Label": "errors in percent"}])
rate = answer["MetricDataResults"][0]
assert rate["Label"] == "errors in percent" and 0 < max(rate["Values"]) <= 100, rate
names = {m["MetricName"] for page in metrics.get_paginator("list_metrics").paginate(Namespace="AWS/Lambda") for m in page["Metrics"]}
assert {"Invocations", "Errors", "Duration", "ConcurrentExecutions"} <= names, names


metrics.put_metric_data(Namespace="Tour", MetricData=[
    {"MetricName": "Depth", "Values": [1.0, 5.0], "Counts": [1.0, 3.0], "Unit": "Count", "Dimensions": [{"Name": "Lake", "Value": "Como"}]}])
def depth(**statistics):
    return metrics.get_metric_statistics(
        Namespace="Tour", MetricName="Depth", Dimensions=[{"Name": "Lake", "Value": "Como"}], StartTime=start, EndTime=end,
        Period=3600, **statistics)["Datapoints"]


[point] = until("a datapoint", lambda: depth(Statistics=["Average", "SampleCount"]))
assert point["Average"] == 4.0 and point["SampleCount"] == 4.0, point
[point] = depth(ExtendedStatistics=["p50"])
assert abs(point["ExtendedStatistics"]["p50"] - 5) < 0.1, point
print("boto3 has seen it all")
