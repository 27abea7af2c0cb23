"""All tables of cases."""

from cases import public_functions_detection as detection
from cases import public_functions_identification as identification
from cases import public_functions_metric_learning as metric_learning
from cases import public_functions_segmentation as segmentation

TABLES = (metric_learning, identification, segmentation, detection)
