"""The LightningModule, the Trainer and its callbacks."""

from fashion_vgg.training.callbacks.class_metrics import ClassMetrics as ClassMetrics
from fashion_vgg.training.callbacks.divergence_guard import DivergenceGuard as DivergenceGuard
from fashion_vgg.training.callbacks.history import History as History
from fashion_vgg.training.callbacks.prediction_plots import PredictionPlots as PredictionPlots
from fashion_vgg.training.callbacks.result_plot import ResultPlot as ResultPlot
from fashion_vgg.training.callbacks.slow_run_notice import SlowRunNotice as SlowRunNotice
from fashion_vgg.training.callbacks.step_curves import StepCurves as StepCurves
from fashion_vgg.training.callbacks.throughput import Throughput as Throughput
from fashion_vgg.training.callbacks.weight_plots import FirstLayerFilters as FirstLayerFilters
from fashion_vgg.training.callbacks.weight_plots import WeightHistograms as WeightHistograms
from fashion_vgg.training.callbacks.whitening import Whitening as Whitening
from fashion_vgg.training.classifier import ImageClassifier as ImageClassifier
from fashion_vgg.training.ddp import DDPStrategy as DDPStrategy
from fashion_vgg.training.mlflow import MLFlowLogger as MLFlowLogger
from fashion_vgg.training.muon import Muon as Muon
from fashion_vgg.training.tensorboard import TensorBoardLogger as TensorBoardLogger
