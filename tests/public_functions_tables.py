"""All tables of `test_public_functions`."""

from tests import public_functions_detection as detection
from tests import public_functions_identification as identification
from tests import public_functions_metric_learning as metric_learning
from tests import public_functions_segmentation as segmentation

TABLES = (metric_learning, identification, segmentation, detection)
