"""Tasks by name: `TASKS[config.task](config, element_spec, axis_name)`."""

from segsiam_jax.tasks import instance, semantic, siamese

TASKS = {
  "instance": instance.make_task,
  "semantic": semantic.make_task,
  "siamese": siamese.make_task,
}
