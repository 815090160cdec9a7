"""Log groups by their names, as DescribeLogGroups gives them, and what they keep no longer.

Without: the names are not looked at, and events stay for ever. AWS takes up to three days to delete what is past a group's
retention; here it is gone at once.
"""

import json
import time

MOST_NAMES = 50
OTHER_FILTERS = {"accountIdentifiers", "logGroupClass", "logGroupNamePattern", "logGroupNamePrefix"}
DAY_MS = 86_400_000


def install(replace, logs, error):
    def by_name(original):
        def describe_log_groups(data):
            names = data.get("logGroupIdentifiers")
            if names is None:
                return original(data)
            if not 1 <= len(names) <= MOST_NAMES or OTHER_FILTERS & set(data):
                reason = f"logGroupIdentifiers are 1 to {MOST_NAMES}, and no other filter goes with them"
                return error("InvalidParameterException", reason, 400)
            found, token = [], None
            while True:
                page = json.loads(original({"nextToken": token} if token else {})[2])
                found += [g for g in page["logGroups"] if g["logGroupName"] in names or g["logGroupArn"] in names]
                token = page.get("nextToken")
                if not token:
                    return logs.json_response({"logGroups": found})

        return describe_log_groups

    replace(logs, "_describe_log_groups", by_name)

    def without_what_is_past(original):
        def serve(data):
            name = logs._resolve_log_group_name(data)
            group = logs._log_groups.get(name) if name else None
            if group and group.get("retentionInDays"):
                since = time.time() * 1_000 - group["retentionInDays"] * DAY_MS
                with logs._log_events_lock:
                    for stream in group["streams"].values():
                        stream["events"][:] = [event for event in stream["events"] if event["timestamp"] >= since]
            return original(data)

        return serve

    for call in ("_filter_log_events", "_get_log_events", "_start_query"):
        replace(logs, call, without_what_is_past)
