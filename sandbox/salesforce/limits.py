"""What the organisation may do in a day, and how much of that is left.

https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_limits.htm
"""

from sandbox.salesforce.org import UNLIMITED, Salesforce, routes
from sandbox.wire import Answer, Call


@routes.on("GET", "/limits")
def limits(org: Salesforce, call: Call) -> Answer:
    most = org.options.daily_limit or UNLIMITED
    calls = {"Max": most, "Remaining": max(most - org.used(call.at), 0)}
    body = {
        "DailyApiRequests": calls,
        "DailyBulkApiBatches": {"Max": 15_000, "Remaining": 15_000},
        "DailyBulkV2QueryJobs": {"Max": 10_000, "Remaining": 10_000},
        "DailyDeliveredPlatformEvents": {"Max": 10_000, "Remaining": 10_000},
        "DataStorageMB": {"Max": 5, "Remaining": 5},
    }
    return Answer(200, body)
