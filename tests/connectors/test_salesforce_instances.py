"""Where the calls of an org may go: the answer of a sign-in names it, so it is looked at."""

import pytest

from app.connectors.salesforce.auth import check_instance
from app.errors import AccountError

LOGIN = "https://login.salesforce.com"


@pytest.mark.parametrize(
    ("instance", "login"),
    [
        ("https://acme.my.salesforce.com", LOGIN),
        ("https://acme--uat.sandbox.my.salesforce.com", "https://test.salesforce.com"),
        ("http://127.0.0.1:8101/salesforce", "http://127.0.0.1:8101/salesforce"),
        ("http://localhost:9001", "http://127.0.0.1:9000"),
        ("https://crm.internal.example:8443", "https://crm.internal.example"),
        ("http://10.1.2.3", LOGIN),  # named by the operator
    ],
)
def test_an_address_of_salesforce_or_of_the_operators_own_is_called(instance, login):
    check_instance(instance, login, ("10.1.2.3",))


@pytest.mark.parametrize(
    ("instance", "login"),
    [
        ("http://acme.my.salesforce.com", LOGIN),  # the session would travel in the open
        ("https://salesforce.com.evil.example", LOGIN),
        ("https://evilsalesforce.com", LOGIN),
        ("https://acme.my.salesforce.com@evil.example", LOGIN),
        ("http://169.254.169.254", LOGIN),
        ("http://127.0.0.1:9001", LOGIN),
        ("http://crm.internal.example", "https://crm.internal.example"),
    ],
)
def test_the_session_goes_nowhere_else(instance, login):
    with pytest.raises(AccountError, match="no https address of Salesforce"):
        check_instance(instance, login)
