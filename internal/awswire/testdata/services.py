# Uses CloudWatch and its logs through boto3, in every protocol that its
# models know, against the server whose address is the argument. The serializers
# and parsers are botocore's own; only the choice of the protocol is forced.
import datetime, sys
import boto3, botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint = sys.argv[1]


def client(service, protocol=None):
    session = botocore.session.get_session()
    loader = session.get_component('data_loader')
    load = loader.load_service_model

    def forced(name, kind, *args, **kwargs):
        model = load(name, kind, *args, **kwargs)
        if protocol and kind == 'service-2':
            model['metadata']['protocol'] = protocol
            model['metadata']['protocols'] = [protocol]
        return model

    loader.load_service_model = forced
    return boto3.Session(botocore_session=session).client(
        service, endpoint_url=endpoint, region_name='eu-central-1',
        aws_access_key_id='AKIDEXAMPLE', aws_secret_access_key='wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
        config=Config(retries={'max_attempts': 0, 'mode': 'standard'}, inject_host_prefix=False))


def refused(code, call, **kwargs):
    try:
        call(**kwargs)
    except ClientError as e:
        assert e.response['Error']['Code'] == code, e.response
        assert len(e.response['ResponseMetadata']['RequestId']) == 36, e.response
        return e
    raise AssertionError('nothing was refused, not with ' + code)


utc = datetime.timezone.utc
start = datetime.datetime(2026, 11, 1, 12, 0, 0, 250000, tzinfo=utc)

for protocol in (None, 'smithy-rpc-v2-cbor', 'json', 'query'):
    cw = client('cloudwatch', protocol)
    data = [{'MetricName': 'm%d é&=+' % i, 'Dimensions': [{'Name': 'd', 'Value': 'v' * 100}], 'Timestamp': start,
             'Values': [0.5, -1e300, i], 'Counts': [1, 2, 3], 'Unit': 'Count'} for i in range(200)]
    cw.put_metric_data(Namespace='ns/é', MetricData=data)  # compressed by botocore
    cw.put_metric_data(Namespace='one', MetricData=data[:1])
    answer = cw.get_metric_data(
        MetricDataQueries=[{'Id': 'a', 'MetricStat': {'Metric': {'Namespace': 'ns', 'MetricName': 'm'}, 'Period': 60, 'Stat': 'p99'}, 'ReturnData': True}],
        StartTime=start, EndTime=start + datetime.timedelta(hours=1), ScanBy='TimestampAscending')
    result = answer['MetricDataResults'][0]
    assert result['Id'] == 'a' and result['Values'] == [1.5, 0.0, -2e-10], answer
    assert [t.astimezone(utc) for t in result['Timestamps']] == [start, start.replace(microsecond=0)], answer
    assert result['Label'] == '<&> \r\n é', answer
    assert len(answer['ResponseMetadata']['RequestId']) == 36, answer
    assert cw.list_metrics()['Metrics'] == []
    e = refused('ResourceNotFound', cw.get_dashboard, DashboardName='none')
    assert e.response['Error']['Message'] == 'no <dashboard>', e.response
    assert isinstance(e, cw.exceptions.DashboardNotFoundError) or isinstance(e, cw.exceptions.ResourceNotFound), type(e)
    assert e.response['ResponseMetadata']['HTTPStatusCode'] == 404, e.response
    refused('InvalidParameterCombination', cw.get_metric_statistics, Namespace='n', MetricName='m', StartTime=start, EndTime=start, Period=60)
    e = refused('ValidationError', cw.list_metrics, Namespace='x' * 256)
    assert "failed to satisfy constraint" in e.response['Error']['Message'], e.response
    refused('NotImplementedException', cw.delete_alarms, AlarmNames=['a'])
    assert cw.describe_alarms(AlarmTypes=['MetricAlarm'])['ResponseMetadata']['HTTPStatusCode'] == 200

logs = client('logs')
logs.create_log_group(logGroupName='/aws/lambda/f', tags={'a': 'b', 'é': ''})
answer = logs.put_log_events(logGroupName='/aws/lambda/f', logStreamName='s', logEvents=[{'timestamp': 1, 'message': 'é\u2028\n\x01😀'}])
assert answer['nextSequenceToken'] == 't', answer
e = refused('ResourceAlreadyExistsException', logs.create_log_group, logGroupName='twice')
assert isinstance(e, logs.exceptions.ResourceAlreadyExistsException)
e = refused('InvalidSequenceTokenException', logs.put_log_events, logGroupName='token', logStreamName='s', logEvents=[{'timestamp': 1, 'message': 'x'}])
assert e.response['expectedSequenceToken'] == '42', e.response
e = refused('InvalidParameterException', logs.create_log_group, logGroupName='!')
assert "at 'logGroupName' failed to satisfy constraint: Member must satisfy regular expression pattern" in e.response['Error']['Message'], e.response
events = logs.start_live_tail(logGroupIdentifiers=['arn:aws:logs:eu-central-1:123456789012:log-group:g'])['responseStream']
seen = []
try:
    for event in events:
        seen.append(list(event)[0])
except Exception as e:
    seen.append(e.response['Error']['Code'] if hasattr(e, 'response') else repr(e))
assert seen == ['sessionStart', 'sessionUpdate', 'SessionTimeoutException'], seen

fine = client('lambda').get_account_settings()
assert fine['AccountUsage']['FunctionCount'] == 3, fine
e = refused('NotImplementedException', client('dynamodb').list_tables)
assert 'dynamodb' in e.response['Error']['Message'], e.response
refused('NotImplementedException', client('rds').describe_db_instances)
refused('NotImplementedException', client('xray').get_groups)
print('boto3 is content')
