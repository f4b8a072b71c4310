"""The executor of every Dagster run: all steps in one process, under the factory's lock.

DuckDB has one writer, so a step has no process of its own (docs/adr/001). The lock is held for the whole run, also
for one that was started in the UI; a run that finds it taken waits for its turn, and says for whom.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor

from datafabriek.config import Settings
from datafabriek.instance import PROCESS_TAG
from datafabriek.locking import FactoryBusyError, factory_lock, process_mark

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan

PATIENCE_S = 900.0
"""How long a run waits for the lock before it fails and tells who holds it."""


class LockedInProcessExecutor(InProcessExecutor):
    """Dagster's in-process executor between taking and freeing the factory's lock."""

    def __init__(self, settings: Settings, patience_s: float = PATIENCE_S) -> None:
        super().__init__(retries=RetryMode.ENABLED)
        self._settings = settings
        self._patience_s = patience_s

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """Wait for the lock, told once in the event log, then run all steps.

        Raises:
            FactoryBusyError: the lock stayed taken; the message names its holder.
        """
        run = plan_context.dagster_run
        plan_context.instance.add_run_tags(run.run_id, {PROCESS_TAG: process_mark()})
        deadline, told = time.monotonic() + self._patience_s, False
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(factory_lock(self._settings.paths.lock, f"Dagster run {run.run_id[:8]}"))
                    break
                except FactoryBusyError as busy:
                    if time.monotonic() > deadline:
                        raise
                    if not told:
                        message = f"Waiting for its turn: {busy}"
                        yield dg.DagsterEvent.engine_event(plan_context, message, EngineEventData())
                        told = True
                    time.sleep(1.0)
            yield from super().execute(plan_context, execution_plan)


def locked_executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor of all jobs of this factory."""

    @dg.executor(name="een_tegelijk")
    def een_tegelijk(_context: dg.InitExecutorContext) -> LockedInProcessExecutor:
        return LockedInProcessExecutor(settings)

    return een_tegelijk
