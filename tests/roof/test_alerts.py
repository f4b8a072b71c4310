"""Alerts arrive over the wire: a local mail server and a local webhook take them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from datafabriek.alerts import FROM_UI, Alert, AlertError, alert
from datafabriek.config import Settings
from datafabriek.status import announce_late

FAILURE = Alert.of_failure("Proef", "nachtelijke_run", "abc", ["raw_cbs__regios"], released=True)

Mailbox = tuple[int, list[str]]
Webhook = tuple[int, list[dict[str, Any]]]


def mail_to(port: int, *people: str) -> str:
    to = ", ".join(people)
    return f"{{to: [{to}], sender: f@b.nl, smtp_host: 127.0.0.1, smtp_port: {port}, starttls: false}}"


def test_a_failed_run_is_mailed(factory: Callable[..., Settings], mailbox: Mailbox) -> None:
    port, letters = mailbox
    assert alert(factory(f"alerts: {{mail: {mail_to(port, 'a@b.nl', 'c@d.nl')}}}"), FAILURE) == ["mail"]
    assert "Subject: Proef: nachtelijke_run is mislukt" in letters[0]
    assert "raw_cbs__regios" in letters[0]
    assert "To: a@b.nl, c@d.nl" in letters[0]


def test_a_failed_run_is_posted(factory: Callable[..., Settings], webhook: Webhook) -> None:
    port, posted = webhook
    assert alert(factory(f"alerts: {{webhook: 'http://127.0.0.1:{port}/x'}}"), FAILURE) == ["webhook"]
    assert posted[0]["soort"] == "run_mislukt"
    assert posted[0]["stappen"] == ["raw_cbs__regios"]


def test_a_late_delivery_is_mailed_and_posted_once(
    factory: Callable[..., Settings], mailbox: Mailbox, webhook: Webhook
) -> None:
    (mail_port, letters), (hook_port, posted) = mailbox, webhook
    alerts = f"alerts: {{mail: {mail_to(mail_port, 'a@b.nl')}, webhook: 'http://127.0.0.1:{hook_port}/x'}}"
    settings = factory(f'deliveries: {{bus: {{expected_from: "2020-08", expected_until: "2020-08"}}}}\n{alerts}')
    for _ in range(2):
        announce_late(settings, date(2020, 10, 1))
    assert len(letters) == len(posted) == 1
    assert "bus over 2020-08" in letters[0]
    assert posted[0]["leveringen"] == [{"levering": "bus", "periode": "2020-08", "uiterlijk": "2020-09-28"}]


def test_a_channel_that_is_down_is_named_and_the_other_still_tried(
    factory: Callable[..., Settings], mailbox: Mailbox
) -> None:
    port, letters = mailbox
    settings = factory(f"alerts: {{mail: {mail_to(port, 'a@b.nl')}, webhook: 'http://127.0.0.1:9/'}}")
    with pytest.raises(AlertError, match=r"alerts\.webhook"):
        alert(settings, FAILURE)
    assert len(letters) == 1


def test_nothing_is_sent_where_no_channel_is_set(factory: Callable[..., Settings]) -> None:
    assert alert(factory(), FAILURE) == []


def test_an_alert_claims_no_release_where_there_is_none() -> None:
    alarm = Alert.of_failure("Proef", "nachtelijke_run", "abc", [], released=False)
    assert "niets vrijgegeven" in alarm.lines[-1]
    assert "blijft staan" not in alarm.lines[-1]


def test_a_run_of_chosen_assets_is_called_what_it_is() -> None:
    alarm = Alert.of_failure("Proef", "__ASSET_JOB", "abc", ["cbs__kerncijfers_per_jaar"], released=True)
    assert "__ASSET_JOB" not in str(alarm)
    assert FROM_UI in alarm.subject
