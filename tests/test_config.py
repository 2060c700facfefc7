"""The configuration file: what it means, and mistakes named by file, line and key."""

import json
from pathlib import Path
from textwrap import dedent

import jsonschema
import pytest
import yaml

from app import config
from app.config import FIELDS, EntitySync, FieldSync, MappingRow
from app.errors import ConfigError
from app.sdk.signature import token_of
from app.settings import Settings

EXAMPLE = Path(__file__).parents[1] / "syncline.example.yaml"

SYSTEMS = {
    **dict.fromkeys(("close", "hubspot", "salesforce"), tuple(FIELDS)),
    "desk": ("person",),
}
TWO = dedent("""\
    accounts:
      close:
        connector: close
        credentials: {api_key: "${KEY}"}
      hubspot: {connector: hubspot}
    """)


def parse(text: str, **environment: str) -> config.Config:
    return config.parse(dedent(text), SYSTEMS.__getitem__, environment={"KEY": "k", **environment})


def complaints(text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parse(text, **environment)
    return str(error.value).splitlines()


# ------------------------------------------------------------------------- what it means


def test_accounts_alone_are_complete():
    found = parse(TWO)

    assert list(found.sync) == ["company", "person", "deal"]
    for entity, sync in found.sync.items():
        assert sync.accounts == ("close", "hubspot")
        for field in FIELDS[entity]:
            assert sync.policy(field) == "close"
            assert sync.may_read("hubspot", field)
            assert sync.may_write("hubspot", field)
    assert found.body_limit == 10 * 2**20


def test_key_rules_have_one_spelling_and_a_default():
    found = parse(TWO + "sync: {person: {keys: [emails, first_name+last_name + phones]}}")
    assert found.sync["person"].keys == ("email", "first_name + last_name + phone")
    assert found.sync["company"].keys == ("domain",)
    assert found.sync["deal"].keys is None


def test_what_is_asked_of_an_account_may_be_off():
    own = "{connector: hubspot, guard: {creates: off, deletes: 0}, catch_up: {every: off}}"
    found = parse(TWO.replace("{connector: hubspot}", own)).accounts["hubspot"]
    assert (found.guard.creates, found.guard.updates, found.guard.deletes) == (None, 50_000, 0)
    assert (found.catch_up.every, found.catch_up.grace) == (None, 300)
    worse = own.replace("every: off", "every: 0")
    (line,) = complaints(TWO.replace("{connector: hubspot}", worse))
    assert "catch_up.every" in line


def test_a_key_that_tells_nobody_apart_is_refused():
    keys = "[emial, owner, email, emails, title + title, custom.number, external_id]"
    assert complaints(TWO + f"sync: {{person: {{keys: {keys}}}}}") == [
        "syncline.yaml:6: sync.person.keys[0]: 'emial' is no field of person "
        "(did you mean 'email'?)",
        "syncline.yaml:6: sync.person.keys[1]: 'owner' tells nobody from anybody else",
        "syncline.yaml:6: sync.person.keys[2]: 'email' is written twice",
        "syncline.yaml:6: sync.person.keys[3]: 'email' is written twice",
        "syncline.yaml:6: sync.person.keys[4]: 'title + title' is written twice",
    ]


def test_an_empty_file_is_an_empty_configuration():
    assert parse("").accounts == {}
    assert parse("accounts:\nsync:\n").sync == {}


def test_activities_and_tasks_travel_only_where_they_are_named():
    assert list(parse(TWO).sync) == ["company", "person", "deal"]
    assert list(parse(TWO + "sync: {task: {}}").sync) == ["company", "person", "deal", "task"]


def test_activity_speaks_for_all_that_have_no_key_of_their_own():
    found = parse(
        TWO + "sync: {activity: {direction: from close, fields: {duration: {conflict: latest}}}, "
        "note: {}, email: {accounts: []}}"
    )
    assert list(found.sync) == ["company", "person", "deal", "note", "call", "meeting"]
    assert found.sync["call"].direction == "from close"
    assert found.sync["call"].policy("duration") == "latest"
    assert found.sync["meeting"].fields == {}
    assert found.sync["note"] == EntitySync(accounts=("close", "hubspot"), conflict="close")


def test_a_mistake_under_activity_is_named_once():
    conflict, field = complaints(TWO + "sync: {activity: {conflict: clse, fields: {durtion: {}}}}")
    assert "sync.activity.conflict: 'clse'" in conflict
    assert "'durtion' is no field" in field


def test_an_account_takes_part_only_in_what_its_system_has():
    found = parse("accounts: {desk: {connector: desk}, close: {connector: close}}")

    both, one = ("desk", "close"), ("close",)
    assert found.entity("person") == EntitySync(accounts=both, conflict="desk", keys=("email",))
    assert found.entity("deal") == EntitySync(accounts=one, conflict="close")


def test_an_entity_nobody_takes_part_in_is_absent():
    assert parse("accounts: {desk: {connector: desk}}").entity("deal") is None
    assert parse(TWO + "sync: {deal: {accounts: []}}").entity("deal") is None


def test_a_field_may_have_its_own_policy():
    person = parse(
        TWO + "sync: {person: {conflict: lww, fields: {phone: {conflict: review}}}}"
    ).entity("person")

    assert person is not None
    assert (person.policy("phone"), person.policy("email")) == ("review", "latest")


@pytest.mark.parametrize(
    ("direction", "read", "written"),
    [
        ("both", "abc", "abc"),
        ("from b", "b", "ac"),
        ("to b", "ac", "b"),
        ("off", "", ""),
    ],
)
def test_directions(direction, read, written):
    sync = EntitySync(
        accounts=("a", "b", "c"), conflict="a", fields={"phone": FieldSync(direction=direction)}
    )

    assert [a for a in "abcx" if sync.may_read(a, "phone")] == list(read)
    assert [a for a in "abcx" if sync.may_write(a, "phone")] == list(written)
    assert sync.may_read("a", "email")


def test_a_field_follows_its_entity_unless_it_has_a_direction_of_its_own():
    sync = EntitySync(
        accounts=("a", "b"),
        conflict="a",
        direction="from a",
        fields={"phone": FieldSync(direction="from b"), "email": FieldSync(conflict="b")},
    )
    assert [sync.may_read(x, "email") for x in "ab"] == [True, False]
    assert [sync.may_read(x, "phone") for x in "ab"] == [False, True]
    assert [sync.introduces(x) for x in "ab"] == [True, False]
    assert [sync.receives(x) for x in "ab"] == [False, True]


def test_words_stay_words():
    """YAML would turn these into false, 83 and a date; a stage may be called so."""
    found = parse(TWO + "sync: {deal: {stages: {No: {close: 0123, hubspot: 2026-01-31}}}}")
    close, hubspot = found.sync["deal"].stages["No"].values()
    assert (str(close[0]), str(hubspot[0])) == ("0123", "2026-01-31")

    found = parse(TWO + "sync: {person: {fields: {owner: {direction: off}}}}")
    assert not found.sync["person"].may_read("close", "owner")


def test_a_mapping_row_may_be_a_path_or_more():
    account = parse("""\
        accounts:
          close:
            connector: close
            mapping:
              person: {title: custom.cf_title}
              deal:
                amount,currency: {paths: [value, value_currency], as: cents}
                custom.tier: {direction: off}
        """).accounts["close"]

    assert account.mapping["person"]["title"] == MappingRow(path="custom.cf_title")
    assert account.mapping["deal"]["amount, currency"].as_ == "cents"
    assert account.mapping["deal"]["custom.tier"].direction == "off"


def test_anchors_and_merges_work():
    found = parse("""\
        accounts:
          close: &one {connector: close, mode: observe}
          close-two: {<<: *one, mode: paused}
        """)

    assert found.accounts["close-two"].connector == "close"
    assert found.accounts["close-two"].mode == "paused"


def test_one_secret_or_several():
    one, several = (
        parse(f"accounts: {{close: {{connector: close, webhook_secret: {text}}}}}")
        for text in ("a", "[a, b]")
    )

    assert len(one.accounts["close"].webhook_secrets) == 1
    assert len(several.accounts["close"].webhook_secrets) == 2


def test_options_are_what_only_some_systems_read():
    found = parse("accounts: {hubspot: {connector: hubspot, portal_id: 62515}}")

    assert found.accounts["hubspot"].options == {
        "portal_id": 62515,
        "legacy_signatures": False,
        "lifecycle": "hold",
        "labels": "hold",
        "leads": False,
    }


def test_handlers_are_found_beside_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "rules.py").touch()
    (folder / "ops.yaml").write_text("handlers: [acme.handlers, rules.py]")
    monkeypatch.chdir(tmp_path)

    found = config.load(Settings(config=Path("conf/ops.yaml")), SYSTEMS.__getitem__)

    assert found.handlers == ("acme.handlers", str((folder / "rules.py").resolve()))


def test_the_digest_tells_behaviour_and_no_secret():
    first = parse(TWO)

    assert parse(TWO, KEY="another").digest == first.digest
    assert parse(TWO.replace("hubspot:", "hubspot2:")).digest != first.digest


# --------------------------------------------------------------------- the environment


def test_a_key_in_pem_keeps_its_lines():
    pem = "-----BEGIN PRIVATE KEY-----\nMIIE: {#}\n-----END PRIVATE KEY-----\n"

    found = parse(TWO, KEY=pem)

    assert found.accounts["close"].credentials["api_key"].get_secret_value() == pem


def test_a_name_may_stand_inside_a_value_or_for_a_number():
    found = parse(
        """\
        accounts:
          hubspot:
            connector: hubspot
            portal_id: ${PORTAL}
            legacy_signatures: ${LEGACY}
            base_url: "http://${HOST}/hubspot/"
            external_id: $${PORTAL}
        """,
        PORTAL="62515",
        HOST="127.0.0.1:1",
        LEGACY="true",
    ).accounts["hubspot"]

    assert found.portal_id == 62515
    assert found.legacy_signatures is True
    assert found.base_url == "http://127.0.0.1:1/hubspot"
    assert found.external_id == "${PORTAL}"


def test_a_missing_name_is_an_error_with_its_place():
    assert complaints(TWO.replace("KEY", "GONE")) == [
        "syncline.yaml:4: accounts.close.credentials.api_key: "
        "the environment variable GONE is not set"
    ]


def test_a_file_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOSE_API_KEY", "k")

    assert list(config.load(Settings(), SYSTEMS.__getitem__).accounts) == ["close"]
    (tmp_path / "syncline.yaml").write_text("accounts: {desk: {connector: desk}}")
    assert list(config.load(Settings(), SYSTEMS.__getitem__).accounts) == ["desk"]
    (tmp_path / "other.yaml").write_text("accounts: {hubspot: {connector: hubspot}}")
    found = config.load(Settings(config=Path("other.yaml")), SYSTEMS.__getitem__)
    assert list(found.accounts) == ["hubspot"]


def test_no_file_and_no_credentials_is_an_empty_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert config.load(Settings(), SYSTEMS.__getitem__).accounts == {}


def test_a_file_that_is_named_must_be_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=r"^SYNCLINE_CONFIG names ops.yaml: No such file"):
        config.load(Settings(config=Path("ops.yaml")), SYSTEMS.__getitem__)


# --------------------------------------------------------------------------- mistakes


def test_every_mistake_is_reported_at_once():
    said = complaints(
        TWO
        + dedent("""\
            sync:
              person:
                conflict: hubspt
                fields:
                  fone: {direction: from close}
                  phone: {direction: from clse, conflict: nobody}
                  email: {direction: sideways}
                  custom.score: {conflit: close}
                stages: {New: {close: New}}
              deal:
                accounts: [close, hubspot, close, ghost]
                stages: {New: {hubspott: new}}
              peson: {}
            handlers: [missing.py]
            body_limit: huge
            bodylimit: 3
            """)
    )

    assert said == [
        "syncline.yaml:8: sync.person.conflict: 'hubspt' is neither an account nor "
        "latest/lww/review (did you mean 'hubspot'?)",
        "syncline.yaml:10: sync.person.fields.fone: 'fone' is no field of person "
        "(did you mean 'phone'?)",
        "syncline.yaml:11: sync.person.fields.phone.conflict: 'nobody' is neither an account nor "
        "latest/lww/review",
        "syncline.yaml:11: sync.person.fields.phone.direction: 'from clse' names no account "
        "(did you mean 'close'?)",
        "syncline.yaml:12: sync.person.fields.email.direction: 'sideways' is not both, off, "
        "from ACCOUNT or to ACCOUNT",
        "syncline.yaml:13: sync.person.fields.custom.score.conflit: unknown key "
        "(did you mean 'conflict'?)",
        "syncline.yaml:14: sync.person.stages: only deals and tickets have stages",
        "syncline.yaml:16: sync.deal.accounts[2]: 'close' is written twice",
        "syncline.yaml:16: sync.deal.accounts[3]: 'ghost' is no account",
        "syncline.yaml:17: sync.deal.stages.New.hubspott: 'hubspott' is no account "
        "(did you mean 'hubspot'?)",
        "syncline.yaml:18: sync.peson: is no entity (did you mean 'person'?)",
        "syncline.yaml:19: handlers[0]: there is no file 'missing.py'",
        "syncline.yaml:20: body_limit: 'huge' is not a size such as 10 MiB",
        "syncline.yaml:21: bodylimit: unknown key (did you mean 'body_limit'?)",
    ]


OWN = TWO + dedent("""\
    x:
      salesforce:
        connector: salesforce
        objects: {custom.project: Project__c, custom.site: {type: Site__c, company: Account__c}}
        mapping:
          custom.project: {name: Name, code: Code__c}
          custom.site: {name: Name}
      second:
        connector: salesforce
        objects: {custom.project: Vorhaben__c}
        mapping: {custom.project: {name: Name, code: Nummer__c}}
    """).removeprefix("x:\n")


def test_an_entity_of_ones_own_travels_where_it_is_named_between_those_that_have_it():
    found = parse(OWN + "sync: {custom.project: {keys: [code]}}")
    project = found.sync["custom.project"]
    assert (project.accounts, project.keys, project.conflict) == (
        ("salesforce", "second"),
        ("code",),
        "salesforce",
    )
    assert "custom.site" not in found.sync
    site = found.accounts["salesforce"].objects["custom.site"]
    assert (site.type, site.lookups) == ("Site__c", {"company": "Account__c"})


def test_mistakes_in_entities_of_ones_own():
    assert complaints(
        """\
        accounts:
          salesforce:
            connector: salesforce
            objects: {Project: Project__c, custom.thing: Thing__c, custom.job: Job__c}
            mapping:
              custom.job: {name: Name, people: Who__c, emails: Mails__c, custom.x: X__c}
              custom.plan: {name: Name}
        sync:
          custom.job: {keys: [code], fields: {nam: {direction: off}, company: {write: once}}}
          custom.jobs: {}
        """
    ) == [
        "syncline.yaml:4: accounts.salesforce.objects.Project: an entity of your own is called "
        "custom.<name>, in lower-case letters, digits and _",
        "syncline.yaml:4: accounts.salesforce.objects.custom.thing: none of its fields travels: "
        "map them, mapping.custom.thing",
        "syncline.yaml:6: accounts.salesforce.mapping.custom.job.people: relations cannot be "
        "mapped anew",
        "syncline.yaml:6: accounts.salesforce.mapping.custom.job.emails: 'emails' is no field of "
        "custom.job",
        "syncline.yaml:7: accounts.salesforce.mapping.custom.plan: salesforce has no custom.plan "
        "(did you mean 'custom.thing'?)",
        "syncline.yaml:9: sync.custom.job.fields.nam: 'nam' is mapped nowhere (did you mean "
        "'name'?)",
        "syncline.yaml:9: sync.custom.job.keys[0]: 'code' is mapped nowhere",
        "syncline.yaml:10: sync.custom.jobs: is no entity (did you mean 'custom.job'?)",
    ]


def test_mistakes_in_accounts():
    assert complaints(
        """\
        accounts:
          close:
            conector: close
            mode: lve
            webhook_tolerance: 5m
            portal_id: -1
            legacy_signatures: perhaps
            base_url: api.close.com
            mapping:
              person: {company: lead_id, title: {path: a, paths: [b]}, phone: {}}
              ticket: {name: subject}
          hub: {connector: hubspott}
          Upper: {connector: close}
          latest: {connector: close}
          desk: {connector: desk, mapping: {deal: {name: x}}}
          one: {connector: hubspot, portal_id: 7}
          two: {connector: hubspot, portal_id: 7}
        """
    ) == [
        "syncline.yaml:2: accounts.close.connector: is missing",
        "syncline.yaml:3: accounts.close.conector: unknown key (did you mean 'connector'?)",
        "syncline.yaml:4: accounts.close.mode: 'lve' is not one of live, observe, paused "
        "(did you mean 'live'?)",
        "syncline.yaml:5: accounts.close.webhook_tolerance: '5m' is not a whole number",
        "syncline.yaml:6: accounts.close.portal_id: '-1' must be more than zero",
        "syncline.yaml:7: accounts.close.legacy_signatures: 'perhaps' is neither true nor false",
        "syncline.yaml:8: accounts.close.base_url: 'api.close.com' must be a URL that starts with "
        "https:// or http://",
        "syncline.yaml:10: accounts.close.mapping.person.title: names both path and paths; write "
        "one of them",
        "syncline.yaml:10: accounts.close.mapping.person.phone: names no path",
        "syncline.yaml:12: accounts.hub.connector: 'hubspott' is no connector",
        "syncline.yaml:13: accounts.Upper: 'Upper' cannot name an account: use lower-case letters, "
        "digits, - and _ (latest, lww and review are taken)",
        "syncline.yaml:14: accounts.latest: 'latest' cannot name an account: use lower-case "
        "letters, digits, - and _ (latest, lww and review are taken)",
        "syncline.yaml:15: accounts.desk.mapping.deal: desk has no deal",
        "syncline.yaml:17: accounts.two.portal_id: is already that of the account 'one'",
    ]


def test_relations_and_unknown_fields_cannot_be_mapped():
    assert complaints(
        """\
        accounts:
          close:
            connector: close
            mapping:
              person:
                company: lead_id
                fone, title: x
        """
    ) == [
        "syncline.yaml:6: accounts.close.mapping.person.company: relations cannot be mapped anew",
        "syncline.yaml:7: accounts.close.mapping.person.fone, title: 'fone' is no field of person "
        "(did you mean 'phone'?)",
    ]


def test_a_system_without_the_entity_cannot_take_part():
    assert complaints(
        """\
        accounts: {desk: {connector: desk}, close: {connector: close}}
        sync:
          deal: {accounts: [close, desk]}
          company: {conflict: desk}
        """
    ) == [
        "syncline.yaml:3: sync.deal.accounts[1]: the system of 'desk' has no deal",
        "syncline.yaml:4: sync.company.conflict: 'desk' is neither an account nor "
        "latest/lww/review of this entity",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: b: c", "syncline.yaml:1: this is not YAML: mapping values are not allowed in this"),
        ("a: 1\nb: [", "syncline.yaml:2: this is not YAML: "),
        ("a: \x07", "syncline.yaml:1: this is not YAML: control characters are not allowed"),
        ("- a", "syncline.yaml: the file must hold keys such as accounts and sync"),
        ("accounts: [a]", "syncline.yaml:1: accounts: must be keys with values, one a line"),
        ("accounts:\n  a: text", "syncline.yaml:2: accounts.a: 'text' must be keys with values"),
        ("? [a]\n: b", "syncline.yaml:1: a key on line 1 is not text"),
        ("accounts: &a\n  x: *a", "syncline.yaml:2: accounts.x: refers to itself"),
        ("sync: {}\nsync: {}", "syncline.yaml:2: sync: is written twice (first on line 1)"),
        (
            "sync: {}\n---\nsync: {}",
            "syncline.yaml:2: this is not YAML: but found another document",
        ),
    ],
)
def test_what_is_no_configuration(text, said):
    assert complaints(text)[0].startswith(said)


def test_a_file_in_another_encoding_is_named(tmp_path):
    file = tmp_path / "ops.yaml"
    file.write_bytes("handlers: [é]".encode("latin-1"))

    with pytest.raises(ConfigError, match=r"ops\.yaml: this is not UTF-8 text"):
        config.load(Settings(config=file), SYSTEMS.__getitem__)


def test_no_complaint_shows_a_secret():
    said = complaints(
        """\
        accounts:
          close:
            connector: close
            mode: ${KEY}
            portal_id: ${KEY}
            webhook_secret: [hunter2, {hunter2: hunter2}]
            credentials: hunter2
            base_url: ${KEY}
          hubspot:
            connector: hubspot
            credentials: {access_token: [hunter2], other: ""}
        """,
        KEY="hunter2",
    )

    assert len(said) == 7
    assert not any("hunter2" in line.partition(": ")[2] for line in said)
    assert (
        "syncline.yaml:4: accounts.close.mode: '${KEY}' is not one of live, observe, paused" in said
    )


def test_the_place_of_a_key_can_be_asked_later():
    found = parse(TWO)

    assert found.where("accounts", "close", "credentials") == (
        "syncline.yaml:4: accounts.close.credentials"
    )
    assert found.where("accounts", "close", "mode") == "syncline.yaml:2: accounts.close.mode"


def test_a_connector_may_explain_itself():
    def entities_of(name):
        raise ConfigError(f"there is no connector {name!r}; install it")

    with pytest.raises(ConfigError) as error:
        config.parse("accounts:\n  x: {connector: y}", entities_of)

    assert str(error.value) == (
        "syncline.yaml:2: accounts.x.connector: there is no connector 'y'; install it"
    )


# ------------------------------------------------------------------ schema and example


def test_the_example_is_a_configuration():
    text = EXAMPLE.read_text()
    names = (
        "CLOSE_API_KEY",
        "CLOSE_WEBHOOK_SECRET",
        "HUBSPOT_ACCESS_TOKEN",
        "HUBSPOT_CLIENT_SECRET",
        "SALESFORCE_CLIENT_ID",
        "SALESFORCE_USERNAME",
        "SALESFORCE_PRIVATE_KEY",
        "SALESFORCE_WEBHOOK_SECRET",
    )
    given = {**dict.fromkeys(names, "x"), "SALESFORCE_OUTBOUND_TOKEN": "a1" * 12}

    found = config.parse(text, SYSTEMS.__getitem__, environment=given)

    assert list(found.accounts) == ["close", "hubspot", "salesforce"]


def test_the_example_fits_the_schema():
    jsonschema.Draft202012Validator.check_schema(config.schema())
    jsonschema.validate(
        yaml.safe_load(EXAMPLE.read_text()), config.schema(), jsonschema.Draft202012Validator
    )


def test_the_example_shows_every_key_of_its_systems():
    text = EXAMPLE.read_text()
    models = config.schema()["$defs"]
    keys = {key for model in models.values() for key in model["properties"]}

    assert {key for key in keys if f"{key}:" not in text} == set()


@pytest.mark.parametrize(
    "text",
    [
        "accounts: {close: {conector: close}}",
        "accounts: {Close: {connector: close}}",
        "sync: {persn: {}}",
        "sync: {person: {fields: {phone: {direction: sideways}}}}",
        "accounts: {close: {connector: close, mapping: {deal: {name: []}}}}",
        "body_limit: []",
    ],
)
def test_the_schema_refuses_what_we_refuse(text):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), config.schema())
    assert complaints(text)


def test_every_key_of_the_schema_is_described():
    found = config.schema()

    for model in [found, *found["$defs"].values()]:
        for name, key in model["properties"].items():
            assert key.get("description"), name
    json.dumps(found)


def test_the_page_names_every_variable_key_and_field():
    page = (EXAMPLE.parent / "docs" / "configuration.md").read_text()
    found = config.schema()
    keys = {key for model in [found, *found["$defs"].values()] for key in model["properties"]}
    names = {str(info.alias) for info in Settings.model_fields.values()}
    fields = {field for entity in FIELDS.values() for field in entity}

    assert [word for word in sorted(keys | names) if f"`{word}`" not in page] == []
    assert [word for word in sorted(fields) if word not in page] == []


def test_a_stage_can_name_its_pipeline_and_there_may_be_several():
    found = parse(
        TWO
        + dedent("""\
            sync:
              deal:
                pipelines: {Sales: {close: Sales, hubspot: [default, Partners]}}
                stages:
                  Won: {close: {pipeline: Sales, stage: Won}, hubspot: [closedwon, paid]}
            """)
    ).sync["deal"]
    assert [str(place) for place in found.stages["Won"]["close"]] == ["Sales / Won"]
    assert [str(place) for place in found.stages["Won"]["hubspot"]] == ["closedwon", "paid"]
    assert found.pipelines["Sales"] == {"close": ("Sales",), "hubspot": ("default", "Partners")}


def test_a_map_that_can_be_read_in_two_ways_is_refused():
    assert complaints(
        TWO
        + dedent("""\
            sync:
              deal:
                pipelines:
                  Sales: {close: Sales}
                  Other: {close: sales}
                stages:
                  New: {close: [Lead In, First], hubspot: []}
                  new: {close: {pipeline: Sales, stage: lead in}}
                  Won: {close: [{pipeline: Sales, stage: Won}, {pipline: Sales, stage: X}]}
                  Paid: {close: {pipeline: Partners, stage: Won}}
            """)
    ) == [
        "syncline.yaml:10: sync.deal.pipelines.Other.close: 'sales' is 'Sales' already",
        "syncline.yaml:12: sync.deal.stages.New.hubspot: must not be empty",
        "syncline.yaml:13: sync.deal.stages.new: is the same word as 'New'",
        "syncline.yaml:13: sync.deal.stages.new.close: 'Sales / lead in' is 'New' already",
        "syncline.yaml:14: sync.deal.stages.Won.close[1].pipline: unknown key "
        "(did you mean 'pipeline'?)",
    ]


def test_owners_are_compared_whatever_their_case_and_an_alias_is_one_person():
    owners = "{default: Ana@X.example, aliases: {Bo@x.example: BO@crm.example}}"
    found = parse(f"accounts: {{close: {{connector: close, owners: {owners}}}}}")
    assert found.accounts["close"].owners.default == "ana@x.example"
    assert found.accounts["close"].owners.aliases == {"bo@x.example": "bo@crm.example"}
    (said,) = complaints(
        "accounts: {close: {connector: close, owners: {aliases: {a@x: c@x, b@x: C@x}}}}"
    )
    assert said == (
        "syncline.yaml:1: accounts.close.owners.aliases: gives 'c@x' to several people: "
        "an alias is one person; use stand_ins"
    )


# ------------------------------------------------------------------------- tokens in the path

TOKEN = "8JxkP0aVQm3nT6bYwZrC"


def test_an_outbound_token_is_a_secret_of_its_own_kind():
    text = "accounts: {{desk: {{connector: desk, webhook_secret: a, outbound_token: {}}}}}"
    for given, count in ((TOKEN, 2), (f"[{TOKEN}, {TOKEN}x]", 3)):
        secrets = parse(text.format(given)).accounts["desk"].webhook_secrets
        assert [token_of(secret) for secret in secrets][:2] == ["", TOKEN]
        assert len(secrets) == count
    for wrong in ("short", f"{TOKEN}/{TOKEN}", f"{TOKEN}?", "é" * 20):
        (said,) = complaints(text.format(wrong))
        assert "accounts.desk.outbound_token" in said
        assert wrong not in said


def test_an_organisation_is_an_id_of_salesforce():
    text = "accounts: {{desk: {{connector: desk, organization_id: {}}}}}"
    for right in ("00D000000000001", "00D000000000001EAA"):
        assert parse(text.format(right)).accounts["desk"].options["organization_id"] == right
    assert complaints(text.format("001000000000001"))
