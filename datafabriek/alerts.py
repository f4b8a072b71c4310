"""Telling people that something is wrong: by mail, by webhook, or both, as factory.yaml says.

An alert names jobs, steps, deliveries and periods; never a value of a row. Where neither channel is set, nothing is
sent: `datafabriek status` and the Dagster UI tell the same.
"""

from __future__ import annotations

import json
import os
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from datafabriek.config import Mail, Settings
from datafabriek.errors import FactoryError

TIMEOUT_S = 15.0

FROM_UI = "werk vanuit de Dagster-UI"
"""What a run of chosen assets is called: Dagster has a name for its job that tells nobody anything."""


class AlertError(FactoryError):
    """An alert that did not arrive: the message names the channel, its address and what it answered."""


@dataclass(frozen=True)
class Alert:
    """What is told: one line, a few lines more, and the same as facts for a program that reads the webhook."""

    kind: str
    subject: str
    lines: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_failure(cls, factory: str, job: str, run_id: str, steps: Sequence[str], *, released: bool) -> Alert:
        """A run that failed; `steps` are the names of the steps that did, `released` whether any release stands."""
        job = FROM_UI if job.startswith("__") else job
        stays = "De laatste goede levering blijft staan." if released else "Er staat nu niets vrijgegeven."
        return cls(
            kind="run_mislukt",
            subject=f"{factory}: {job} is mislukt",
            lines=(
                f"De run {run_id} van {job} is mislukt.",
                f"Mislukte stappen: {', '.join(steps) or 'geen (de run brak af)'}.",
                f"{stays} Zie de Dagster-UI of `datafabriek status`.",
            ),
            facts={"job": job, "run_id": run_id, "stappen": list(steps)},
        )


def alert(settings: Settings, message: Alert) -> list[str]:
    """Send an alert over every channel that is set; a channel that fails does not keep the other from being tried.

    Returns:
        The channels it went over (`mail`, `webhook`); empty where none is set.

    Raises:
        AlertError: a channel failed.
    """
    sent, failed = [], []
    if settings.alerts.mail is not None:
        mail = settings.alerts.mail
        try:
            _mail(mail, message)
            sent.append("mail")
        except (OSError, smtplib.SMTPException) as error:
            failed.append(f"mail through {mail.smtp_host}:{mail.smtp_port} failed ({error}): see alerts.mail")
    if settings.alerts.webhook is not None:
        try:
            _post(settings.alerts.webhook, settings.name, message)
            sent.append("webhook")
        except (OSError, ValueError) as error:
            failed.append(f"the webhook did not take the alert ({error}): see alerts.webhook")
    if failed:
        raise AlertError("; ".join(failed))
    return sent


def _mail(mail: Mail, message: Alert) -> None:
    letter = EmailMessage()
    letter["Subject"], letter["From"], letter["To"] = message.subject, mail.sender, ", ".join(mail.to)
    letter.set_content("\n".join(message.lines) + "\n")
    with smtplib.SMTP(mail.smtp_host, mail.smtp_port, timeout=TIMEOUT_S) as server:
        if mail.starttls:
            server.starttls(context=ssl.create_default_context())
        if mail.username:
            server.login(mail.username, os.environ.get(mail.password_env or "", ""))
        server.send_message(letter)


def _post(url: str, factory: str, message: Alert) -> None:
    body = {"fabriek": factory, "soort": message.kind, "onderwerp": message.subject}
    # `text` is what chat services show; the rest is for programs
    body |= {"text": "\n".join((message.subject, *message.lines)), **message.facts}
    request = urllib.request.Request(  # noqa: S310 settings accept http(s) only
        url, json.dumps(body, ensure_ascii=False).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
        pass
