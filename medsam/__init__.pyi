# The public names for type checkers; at run time `__init__.py` imports them when they are first used.
from medsam._version import __version__ as __version__
from medsam.client.client import Client as Client
from medsam.client.session import RemoteSession as RemoteSession
from medsam.errors import AssetError as AssetError
from medsam.errors import CheckpointError as CheckpointError
from medsam.errors import InconsistentSeries as InconsistentSeries
from medsam.errors import InputError as InputError
from medsam.errors import MedSAMError as MedSAMError
from medsam.errors import PromptError as PromptError
from medsam.errors import SeveralSeries as SeveralSeries
from medsam.geometry import VolumeGeometry as VolumeGeometry
from medsam.inference.embeddings import EmbeddingCache as EmbeddingCache
from medsam.inference.predictor import Predictor as Predictor
from medsam.inference.segmentation import Segmentation as Segmentation
from medsam.inference.session import Session as Session
from medsam.inference.session_state import SessionState as SessionState
from medsam.io.algorithm import Algorithm as Algorithm
from medsam.io.algorithm import DicomOptions as DicomOptions
from medsam.io.dicom.series import read_dicom as read_dicom
from medsam.io.labels import load_labels as load_labels
from medsam.io.load import load_volume as load_volume
from medsam.io.save import encode_labels as encode_labels
from medsam.io.save import save_labels as save_labels
from medsam.models.build import load_model as load_model
from medsam.prompts.files import load_prompts as load_prompts
from medsam.prompts.limits import Limits as Limits
from medsam.prompts.parse import read_prompts as read_prompts
from medsam.prompts.parse import write_prompts as write_prompts
from medsam.prompts.prompt import Prompt as Prompt
from medsam.prompts.strokes import Scribble as Scribble
from medsam.transforms.intensity import IntensityWindow as IntensityWindow
from medsam.volume import LabelVolume as LabelVolume
from medsam.volume import Volume as Volume

__all__ = [
    "Algorithm",
    "AssetError",
    "CheckpointError",
    "Client",
    "DicomOptions",
    "EmbeddingCache",
    "InconsistentSeries",
    "InputError",
    "IntensityWindow",
    "LabelVolume",
    "Limits",
    "MedSAMError",
    "Predictor",
    "Prompt",
    "PromptError",
    "RemoteSession",
    "Scribble",
    "Segmentation",
    "Session",
    "SessionState",
    "SeveralSeries",
    "Volume",
    "VolumeGeometry",
    "encode_labels",
    "load_labels",
    "load_model",
    "load_prompts",
    "load_volume",
    "read_dicom",
    "read_prompts",
    "save_labels",
    "write_prompts",
]
