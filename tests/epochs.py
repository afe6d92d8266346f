"""A callback that does something after each epoch."""


class AfterEpochs:
    """What a function says of the estimator after each epoch, for so many epochs at most."""

    def __init__(self, of, stop_after=None):
        self.of, self.stop_after, self.seen = of, stop_after, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            self.seen.append(self.of(fitted_estimator))
        return len(self.seen) == self.stop_after
