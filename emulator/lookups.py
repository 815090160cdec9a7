"""CloudTrail's LookupEvents as AWS has it: pages of at most 50 with a token that leads to the next, and one attribute a call.

Without: the latest 50 events are all that can be seen, so that whoever makes enough calls hides the others; and several
attributes at once are taken, which AWS refuses; and a call shows at once, however late its event is.
"""

import base64
import json
import time

import conditions

MOST = 50


def error(code, message):
    return 400, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps({"__type": code, "message": message}).encode()


def matches(event, key, value):
    if key in ("ResourceName", "ResourceType"):
        return any(one.get(key) == value for one in event.get("Resources", []))
    return event.get(key, "") == value


def install(replace, cloudtrail):
    def lookups(_):
        def lookup_events(body):
            attributes = body.get("LookupAttributes", [])
            if len(attributes) > 1:
                return error("InvalidLookupAttributesException", "You can specify only one lookup attribute.")
            start, end = body.get("StartTime"), body.get("EndTime")
            due = time.time() - (conditions.SETTINGS.cloudtrail_delay or 0)
            found = [
                event
                for event in reversed(list(cloudtrail._get_event_queue()))
                if event["EventTime"] <= due
                and (start is None or event["EventTime"] >= float(start))
                and (end is None or event["EventTime"] <= float(end))
                and all(matches(event, one["AttributeKey"], one["AttributeValue"]) for one in attributes)
            ]
            # A page begins after the event that the token names: later calls do not shift it.
            if token := body.get("NextToken"):
                try:
                    last = base64.b64decode(token, validate=True).decode()
                    found = found[[event["EventId"] for event in found].index(last) + 1 :]
                except ValueError:
                    return error("InvalidNextTokenException", "The specified token is not valid.")
            most = min(int(body.get("MaxResults", MOST)), MOST)
            page = found[:most]
            answer = {"Events": page}
            if len(found) > most:
                answer["NextToken"] = base64.b64encode(page[-1]["EventId"].encode()).decode()
            return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(answer).encode()

        return lookup_events

    replace(cloudtrail, "_lookup_events", lookups)
    cloudtrail._DISPATCH["LookupEvents"] = cloudtrail._lookup_events
