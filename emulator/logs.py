"""CloudWatch Logs' FilterLogEvents as AWS has it: pages of at most 1 MB or 10,000 events, with a token for the next.

Without: one page holds everything that fits into 10,000 events, and the rest cannot be had.
"""

import base64
import json

MOST_BYTES = 1 << 20
MOST_EVENTS = 10_000


def install(replace, logs, error):
    def pages(original):
        def filter_log_events(data):
            group = logs._resolve_log_group_name(data)
            if data.get("filterPattern") or group not in logs._log_groups:
                return original(data)
            begins, ends = data.get("startTime"), data.get("endTime")
            with logs._log_events_lock:
                found = sorted(
                    (event["timestamp"], event.get("ingestionTime", 0), name, place, event)
                    for name, stream in logs._log_groups[group]["streams"].items()
                    if not data.get("logStreamNames") or name in data["logStreamNames"]
                    for place, event in enumerate(stream["events"])
                    if (begins is None or event["timestamp"] >= begins) and (ends is None or event["timestamp"] <= ends)
                )
            # A page begins behind the event that the token names.
            if token := data.get("nextToken"):
                try:
                    behind = tuple(json.loads(base64.b64decode(token, validate=True)))
                    found = [one for one in found if one[:4] > behind]
                except (ValueError, TypeError):
                    return error("InvalidParameterException", "The specified nextToken is invalid.", 400)
            most = min(int(data.get("limit", MOST_EVENTS)), MOST_EVENTS)
            events, held = [], 0
            for *_, name, _, event in found:
                held += len(event.get("message", "").encode())
                if events and (len(events) == most or held > MOST_BYTES):
                    break
                events.append({**event, "logStreamName": name})
            answer = {"events": events, "searchedLogStreams": []}
            if len(events) < len(found):
                answer["nextToken"] = base64.b64encode(json.dumps(found[len(events) - 1][:4]).encode()).decode()
            return logs.json_response(answer)

        return filter_log_events

    replace(logs, "_filter_log_events", pages)
