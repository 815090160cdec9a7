"""Log groups of the class Infrequent Access, and Logs Insights, as AWS has them.

Without: FilterLogEvents and GetLogEvents serve a group of any class; a query is complete when it is started, as many run as
like, its events have no time of ingestion, all come at once, and whoever asks for them is authorised on everything.
"""

import json
import time

INFREQUENT = "INFREQUENT_ACCESS"
# Queries that run at the same time in an account, and for how long one does, in seconds, where nobody asks.
MOST_RUNNING = 30
RUNS_FOR = 1
# Events that a query gives in one answer.
MOST_ROWS = 10_000


def install(replace, logs, iam_actions, error):
    def refuses(call):
        def make(original):
            def serve(data):
                name = logs._resolve_log_group_name(data)
                group = logs._log_groups.get(name) if name else None
                if group and group.get("logGroupClass") == INFREQUENT:
                    reason = f"The log group {name} is of log-group-class {INFREQUENT}. {call} is not supported for this log class."
                    return error("InvalidOperationException", reason, 400)
                return original(data)

            return serve

        return make

    replace(logs, "_filter_log_events", refuses("FilterLogEvents"))
    replace(logs, "_get_log_events", refuses("GetLogEvents"))

    def starts(original):
        def start_query(data):
            if not 0 < int(data.get("limit", MOST_ROWS)) <= 10 * MOST_ROWS:
                return error("InvalidParameterException", "limit must be from 1 to 100000", 400)
            since = time.time() - RUNS_FOR
            running = [query for query in logs._queries.values() if query["polls"] == 0 and query["began"] > since]
            if len(running) >= MOST_RUNNING:
                return error("LimitExceededException", "Too many queries are running", 400)
            # The second in which it ends belongs to it.
            answer = original({**data, "endTime": int(data["endTime"]) + 1})
            if answer[0] < 300:
                query = logs._queries[json.loads(answer[2])["queryId"]]
                query.update(polls=0, began=time.time())
                for row in query["results"]:
                    values = {field["field"]: field for field in row}
                    if "@ingestionTime" in values:
                        values["@ingestionTime"]["value"] = ingested(values["@ptr"]["value"])
            return answer

        return start_query

    def ingested(pointer):
        group = logs._log_groups.get(logs._log_records[pointer]["@log"], {"streams": {}})
        for stream in group["streams"].values():
            for event in stream["events"]:
                if event.get("eventId") == pointer:
                    return logs._format_insights_timestamp(event["ingestionTime"])
        return ""

    def gives(original):
        def get_query_results(data):
            query = logs._queries.get(data.get("queryId"))
            # The first who asks is told that it runs.
            if query and query["polls"] == 0:
                query["polls"] = 1
                return logs.json_response({"status": "Running", "results": [], "statistics": {}})
            most = min(int(data.get("maxItems", MOST_ROWS)), MOST_ROWS)
            return original({**data, "maxItems": most})

        return get_query_results

    replace(logs, "_start_query", starts)
    replace(logs, "_get_query_results", gives)

    def asked_of(original):
        def extract_resource_arn(service, method, path, headers, body, query_params, *rest):
            arn = original(service, method, path, headers, body, query_params, *rest)
            if service != "logs" or headers.get("x-amz-target", "").rsplit(".", 1)[-1] != "GetQueryResults":
                return arn
            try:
                query = logs._queries.get(json.loads(body).get("queryId"))
            except ValueError:
                return arn
            if not query or not query["logGroupName"]:
                return arn
            group = logs._log_groups.get(query["logGroupName"])
            return group["arn"].removesuffix(":*") if group else arn

        return extract_resource_arn

    replace(iam_actions, "extract_resource_arn", asked_of)
