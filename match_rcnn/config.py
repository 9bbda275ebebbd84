"""Every configuration key that Match R-CNN adds to its host's."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import match_rcnn.modeling  # noqa: F401  puts our heads into the host's registries
from match_rcnn.d2 import CfgNode, get_cfg
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy
from match_rcnn.modeling.taxonomy import set_taxonomy


def add_match_rcnn_config(cfg: CfgNode) -> None:
    """Add our keys, with their defaults, to a host's config in place; host defaults stay."""
    _add_training_config(cfg)
    _add_data_config(cfg)
    _add_model_config(cfg)
    _add_match_config(cfg)
    _add_attribute_config(cfg)
    _add_recognition_config(cfg)
    _add_test_config(cfg)


def _add_training_config(cfg: CfgNode) -> None:
    # Which optimizer follows SOLVER.BASE_LR and the rest: "SGD" (the paper's) or "AdamW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Iterations between two lines on the console, in metrics.json and in TensorBoard.
    cfg.SOLVER.LOG_PERIOD = 20

    # With SOLVER.AMP.ENABLED: "bfloat16" or "float16" (GPUs only, with a scaled loss); "" takes
    # float16 on a GPU and bfloat16 on the CPU.
    cfg.SOLVER.AMP.PRECISION = ""

    # A schedule in epochs of the training set (match_rcnn/engine/schedule.py says what one is).
    # Each that is set (a number above 0) decides the key in iterations that is named behind it.
    cfg.SOLVER.EPOCHS = None  # SOLVER.MAX_ITER
    cfg.SOLVER.EPOCH_STEPS = ()  # SOLVER.STEPS
    cfg.SOLVER.WARMUP_EPOCHS = None  # SOLVER.WARMUP_ITERS
    cfg.SOLVER.CHECKPOINT_EPOCHS = None  # SOLVER.CHECKPOINT_PERIOD
    cfg.TEST.EVAL_EPOCHS = None  # TEST.EVAL_PERIOD

    # The batch goes through the model in so many equal parts, whose gradients are added up; it
    # needs the memory of one part (docs/endurance.md says what differs).
    cfg.SOLVER.ACCUMULATION_STEPS = 1
    # Of the checkpoints written every SOLVER.CHECKPOINT_PERIOD, how many stay; 0: all.
    cfg.SOLVER.CHECKPOINTS_KEPT = 5

    # A moving average of the weights, which evaluations use: each step moves it by (1 - DECAY) of
    # the way to the weights.
    cfg.MODEL_EMA = CfgNode()
    cfg.MODEL_EMA.ENABLED = False
    cfg.MODEL_EMA.DECAY = 0.999

    # Weights & Biases gets what TensorBoard gets (pip install 'match_rcnn[wandb]').
    cfg.WANDB = CfgNode()
    cfg.WANDB.ENABLED = False
    cfg.WANDB.PROJECT = "match_rcnn"
    cfg.WANDB.NAME = ""  # "": the name of OUTPUT_DIR


def _add_data_config(cfg: CfgNode) -> None:
    # Landmarks as the model gets them: "compact" holds the category's own (at most 39 wide in
    # DeepFashion2), "dense" all (294) channels, which the host's stock keypoint head needs.
    cfg.INPUT.LANDMARK_LAYOUT = "compact"

    # Of several data sets, what part of the samples each gives, such as (3, 1), so that each batch
    # is mixed; (): all images once an epoch.
    cfg.DATASETS.TRAIN_WEIGHTS = ()

    # Keys of the annotations, such as "occlusion", whose whole numbers a model gets as
    # gt_attributes; -1 where an item lacks one.
    cfg.INPUT.ATTRIBUTES = []

    # Large-scale jitter in the place of INPUT.MIN_SIZE_TRAIN and MAX_SIZE_TRAIN: training images
    # are resized by a factor from this range (1: they just fit) and cropped or padded to a
    # frame of SIZE (height, width).
    cfg.INPUT.LARGE_SCALE_JITTER = CfgNode()
    cfg.INPUT.LARGE_SCALE_JITTER.ENABLED = False
    cfg.INPUT.LARGE_SCALE_JITTER.MIN_SCALE = 0.1
    cfg.INPUT.LARGE_SCALE_JITTER.MAX_SCALE = 2.0
    cfg.INPUT.LARGE_SCALE_JITTER.SIZE = (1024, 1024)
    # Training images are turned by up to so many degrees either way.
    cfg.INPUT.ROTATION = 0.0
    # Training images' brightness, contrast and saturation change by a factor from 1 - x to 1 + x,
    # their hue by up to x of the colour circle.
    cfg.INPUT.COLOR_JITTER = CfgNode()
    cfg.INPUT.COLOR_JITTER.BRIGHTNESS = 0.0
    cfg.INPUT.COLOR_JITTER.CONTRAST = 0.0
    cfg.INPUT.COLOR_JITTER.SATURATION = 0.0
    cfg.INPUT.COLOR_JITTER.HUE = 0.0

    # Who decodes JPEG files: "opencv", or "pil"; both give the same pixels.
    cfg.INPUT.DECODER = "opencv"

    # With DATALOADER.SAMPLER_TRAIN PairSampler: of the training images, how many come as pairs of
    # a user and a shop photo of the same clothes; the rest come from all images.
    cfg.DATALOADER.PAIR_SHARE = 0.5
    # Training images that cannot be read are replaced and listed in unreadable_images.json; with
    # more than this share of the data set's images training stops.
    cfg.DATALOADER.MAX_UNREADABLE_SHARE = 0.01
    # Training images wait in page-locked memory, from which a GPU copies them faster.
    cfg.DATALOADER.PIN_MEMORY = False


def _add_model_config(cfg: CfgNode) -> None:
    # Hold maps as channels-last in memory: the same sums, in another order, on faster kernels.
    cfg.MODEL.CHANNELS_LAST = False
    # torch.compile for the backbone, with variable sizes; needs a C++ compiler (and triton).
    cfg.MODEL.COMPILE = False

    # MODEL.BACKBONE.NAME build_torchvision_fpn_backbone: a classifier of torchvision's, such as
    # convnext_tiny, swin_t, mobilenet_v3_large or efficientnet_b0; which of torchvision's weights
    # training starts from where MODEL.WEIGHTS names none ("DEFAULT": the best; "": none); and what
    # becomes of batch norm: "" (as it is), "FrozenBN" or "SyncBN".
    cfg.MODEL.TORCHVISION = CfgNode()
    cfg.MODEL.TORCHVISION.NAME = "convnext_tiny"
    cfg.MODEL.TORCHVISION.WEIGHTS = ""
    cfg.MODEL.TORCHVISION.NORM = ""
    # MODEL.BACKBONE.NAME build_timm_fpn_backbone: likewise of timm (extra "timm").
    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NAME = "convnext_tiny"
    cfg.MODEL.TIMM.PRETRAINED = False
    cfg.MODEL.TIMM.NORM = ""

    # The garments that the model knows: "deepfashion2", or a taxonomy as yaml text
    # (match_rcnn/data/taxonomy.py). "": that of DATASETS.TRAIN, which a run's set-up fills in.
    cfg.MODEL.TAXONOMY = ""

    # Anchors and proposals that match no item, and of whose area so much lies in an ignore region
    # (iscrowd), are not background in training. Needs MODEL.PROPOSAL_GENERATOR.NAME IgnoringRPN.
    cfg.MODEL.IGNORE_OVERLAP = 0.5

    # The streams over RoIs behind the box stream, in this order: what the files of
    # match_rcnn/modeling/streams register. Some have a switch of their own (MODEL.MASK_ON,
    # KEYPOINT_ON, MATCH_ON, ATTRIBUTE_ON).
    cfg.MODEL.ROI_STREAMS = ["MaskStream", "LandmarkStream", "MatchStream", "AttributeStream"]


def _add_match_config(cfg: CfgNode) -> None:
    # The match network (paper, section 4.2); it needs the streams whose features it takes.
    cfg.MODEL.MATCH_ON = False
    cfg.MODEL.ROI_MATCH_HEAD = CfgNode()
    cfg.MODEL.ROI_MATCH_HEAD.NAME = "SiameseMatchHead"
    # Names of features, joined by "+". The rows of the paper's Table 8: class, pose, mask,
    # pose+class, mask+class; and ours: pyramid, pyramid+class.
    cfg.MODEL.ROI_MATCH_HEAD.FEATURES = "pose+class"
    # Where pyramid takes RoI features from, and how; without levels, from MODEL.ROI_HEADS's.
    cfg.MODEL.ROI_MATCH_HEAD.IN_FEATURES = []
    cfg.MODEL.ROI_MATCH_HEAD.POOLER_TYPE = "ROIAlignV2"
    cfg.MODEL.ROI_MATCH_HEAD.POOLER_RESOLUTION = 14
    cfg.MODEL.ROI_MATCH_HEAD.POOLER_SAMPLING_RATIO = 0
    cfg.MODEL.ROI_MATCH_HEAD.CONV_DIMS = [256, 256, 256, 1024]
    cfg.MODEL.ROI_MATCH_HEAD.EMBEDDING_DIM = 256
    # RoIs with more than this IoU with an item that has a partner, and so many of them an image.
    cfg.MODEL.ROI_MATCH_HEAD.IOU_THRESHOLD = 0.7
    cfg.MODEL.ROI_MATCH_HEAD.ROIS_PER_IMAGE = 8
    # pair_ce (the paper's), triplet, contrastive or info_nce
    cfg.MODEL.ROI_MATCH_HEAD.LOSS = "pair_ce"
    cfg.MODEL.ROI_MATCH_HEAD.LOSS_WEIGHT = 1.0
    cfg.MODEL.ROI_MATCH_HEAD.MARGIN = 0.3  # triplet and contrastive
    cfg.MODEL.ROI_MATCH_HEAD.TEMPERATURE = 0.07  # info_nce
    # Leave everything else as MODEL.WEIGHTS has it.
    cfg.MODEL.ROI_MATCH_HEAD.TRAIN_ALONE = False
    # Pair the RoIs of all GPUs and not only of each.
    cfg.MODEL.ROI_MATCH_HEAD.GATHER_NEGATIVES = False
    # What orders the TEST.SHORTLIST best candidates; ProductSimilarity: the pair score itself.
    cfg.MODEL.ROI_MATCH_HEAD.SIMILARITY = similarity_keys()
    cfg.MODEL.ROI_MATCH_HEAD.SIMILARITY.NAME = "ProductSimilarity"


def _add_attribute_config(cfg: CfgNode) -> None:
    # Attributes (docs/attributes.md); those of the training sets, as MODEL.TAXONOMY then says.
    cfg.MODEL.ATTRIBUTE_ON = False
    cfg.MODEL.ROI_ATTRIBUTE_HEAD = CfgNode()
    # As for the match network: names of features, joined by "+".
    cfg.MODEL.ROI_ATTRIBUTE_HEAD.FEATURES = "pyramid"
    cfg.MODEL.ROI_ATTRIBUTE_HEAD.IN_FEATURES = []
    cfg.MODEL.ROI_ATTRIBUTE_HEAD.POOLER_TYPE = "ROIAlignV2"
    cfg.MODEL.ROI_ATTRIBUTE_HEAD.POOLER_RESOLUTION = 14
    cfg.MODEL.ROI_ATTRIBUTE_HEAD.POOLER_SAMPLING_RATIO = 0
    # 3x3 convolutions behind a map, and then a linear layer.
    cfg.MODEL.ROI_ATTRIBUTE_HEAD.CONV_DIMS = [256, 256]
    cfg.MODEL.ROI_ATTRIBUTE_HEAD.FC_DIM = 1024
    # In the loss garments with and without an attribute weigh the same: over "all" attributes
    # together, over "each" by itself (a rare one then counts as much as a frequent one), or as they
    # come ("none").
    cfg.MODEL.ROI_ATTRIBUTE_HEAD.BALANCE = "all"
    cfg.MODEL.ROI_ATTRIBUTE_HEAD.LOSS_WEIGHT = 1.0


def _add_test_config(cfg: CfgNode) -> None:
    # Inference in "bfloat16" or "float16" (GPUs only); "" is float32. Results differ slightly.
    cfg.TEST.PRECISION = ""
    # What MatchRCNNPredictor, tools/visualize.py and galleries show: of detections whose boxes
    # overlap by more than this IoU, whatever their categories, the most confident one. Of 326
    # annotated garments on street photos, 2 overlap so much (docs/street_model.md). 1 keeps all;
    # evaluations always do.
    cfg.TEST.AGNOSTIC_NMS_THRESH = 0.5
    # Scores of the predictor that say how often a detection is right: slope and offset of
    # match_rcnn/inference/calibration.py; () leaves them. Evaluations do not use it.
    cfg.TEST.SCORE_CALIBRATION = ()
    # What the predictor returns, tools/visualize.py draws and galleries index has at least this
    # score (calibrated, if it is); SCORE_THRESH_TEST is for evaluations.
    cfg.TEST.SHOWN_FROM = 0.0
    # With TEST.AUG.ENABLED (and TEST.AUG.FLIP for mirrored ones) images are seen at these sizes,
    # parts of INPUT.MIN_SIZE_TEST; the host's TEST.AUG.MIN_SIZES and MAX_SIZE have no meaning here.
    cfg.TEST.AUG.SCALES = (1.0,)
    # Attributes that a predictor's garments, pictures and galleries name: those that score so much
    # at least.
    cfg.TEST.ATTRIBUTE_SCORE_THRESH = 0.5
    # Mask and landmark results are scored for their task: by the box's score times their own
    # confidence to this power, the mean probability inside the mask, or of the landmarks. 0: by the
    # box's score alone, as in COCO's models. docs/accuracy.md has what it gives.
    cfg.TEST.MASK_CONFIDENCE = 0.0
    cfg.TEST.LANDMARK_CONFIDENCE = 0.0
    # Detections per image that the landmark results keep (paper: 20).
    cfg.TEST.LANDMARK_DETECTIONS_PER_IMAGE = 20
    # Detections per image, the best ones, that take part in retrieval.
    cfg.TEST.RETRIEVAL_DETECTIONS_PER_IMAGE = 20
    # Detections with a lower score take part in retrieval neither as queries nor as gallery.
    cfg.TEST.RETRIEVAL_MIN_SCORE = 0.0
    # So many images of each data set, the same each time, are drawn beside their annotations when
    # it is evaluated: for TensorBoard, and as files into OUTPUT_DIR/inference/<name>/pictures.
    cfg.TEST.VISUALIZE_IMAGES = 0
    # The metric that decides which checkpoint is kept as model_best.pth; "" keeps none. "auto" goes
    # by what is learned: "retrieval/top20" with MODEL.MATCH_ON, "bbox/AP" without.
    cfg.TEST.BEST_METRIC = "auto"
    # Training ends after so many evaluations in a row without a better TEST.BEST_METRIC; 0: never.
    cfg.TEST.EARLY_STOP_PATIENCE = 0


def _add_recognition_config(cfg: CfgNode) -> None:
    """Keys of ``MODEL.META_ARCHITECTURE Recognition`` (match_rcnn/modeling/recognition); defaults
    are FashionNet's. What its paper does not say has a word on where the number comes from."""
    cfg.MODEL.RECOGNITION = node = CfgNode()
    # "crop": the garment's region, cut out and resized to CROP_SIZE; "roi": RoIAlign's
    # POOLER_RESOLUTION cells a side of the whole photo's maps (INPUT.MIN_SIZE_* and MAX_SIZE_*).
    node.INPUT = "crop"
    node.CROP_SIZE = 224
    node.POOLER_RESOLUTION = 28
    node.POOLER_SAMPLING_RATIO = 2
    # The region is the given box and so much of its sides more on each side. 0: the box itself, as
    # public code crops it (Liu and Lu 2018).
    node.MARGIN = 0.0
    # In training each edge moves by up to this share of the side; and how many are mirrored. Not
    # said: public code does neither.
    node.JITTER = 0.0
    node.FLIP = 0.0
    # The backbone's map that the branches take; "res3" of a torchvision VGG16 is its conv4_3.
    node.IN_FEATURE = "res3"
    # Behind each convolution of a branch: "" or "BN"; behind each of its linear layers: dropout, as
    # in VGG16.
    node.NORM = ""
    node.DROPOUT = 0.5
    # What finds landmarks ("": nothing); 3x3 convolutions (conv5) and linear layers, of which the
    # widths are those of public code; what the two losses weigh (not said).
    node.LANDMARKS = CfgNode()
    node.LANDMARKS.NAME = "RegressionBranch"
    node.LANDMARKS.CONV_DIMS = [512, 512, 512]
    node.LANDMARKS.FC_DIMS = [1024, 1024]
    node.LANDMARKS.POSITION_WEIGHT = 1.0
    node.LANDMARKS.VISIBILITY_WEIGHT = 1.0
    # A HeatmapBranch's convolutions have the first CONV_DIMS; each of UPSAMPLE_DIMS is a
    # deconvolution to twice the side. SPREAD, share of the side: how far a target reaches; TARGET
    # "gaussian", or "exponential" (Liu and Lu's code, with 8 of 224 pixels; Wang et al. do not
    # say). GRAMMAR: how many recurrent layers refine the maps along CHAINS (lists of slots; none:
    # the four kinematic and four symmetry chains of Wang et al.), of so many channels and such a
    # kernel (not said); 0 for none.
    node.LANDMARKS.UPSAMPLE_DIMS = []
    node.LANDMARKS.SPREAD = 0.04
    node.LANDMARKS.TARGET = "gaussian"
    node.LANDMARKS.GRAMMAR = 0
    node.LANDMARKS.CHAINS = []
    node.LANDMARKS.GRAMMAR_DIM = 16
    node.LANDMARKS.GRAMMAR_KERNEL = 7
    # What to look at, names of the registry of match_rcnn/modeling/recognition/attention.py such as
    # ["LandmarkAttention", "CategoryAttention"] (Wang et al. 2018) or ["UnifiedAttention"] (Liu and
    # Lu 2018); the widths of the latter two's networks (public code: the last one's), and how the
    # first merges the landmarks' maps: "sum", "mean" or "max" (not said).
    node.ATTENTION = []
    node.ATTENTION_DIMS = [32, 64, 128]
    node.ATTENTION_MERGE = "sum"
    # Landmark pooling: a window of WINDOW cells a side, max-pooled to RESOLUTION a side (4 in
    # public code; the window is not said: a quarter of the region's side). GATE "hard": what is not
    # seen counts 0 (paper), "soft": as likely as it is seen, "none": all count.
    node.LOCAL = CfgNode()
    node.LOCAL.ENABLED = True
    node.LOCAL.WINDOW = 8
    node.LOCAL.RESOLUTION = 4
    node.LOCAL.POOLER = "max"
    node.LOCAL.GATE = "hard"
    node.LOCAL.FC_DIMS = [1024]  # public code
    node.GLOBAL = CfgNode()
    node.GLOBAL.CONV_DIMS = [512, 512, 512]
    node.GLOBAL.FC_DIMS = [4096]  # VGG16's fc6; with both []: the mean of the map
    node.FUSION_DIM = 1024  # public code; 0: what the branches give, side by side
    # Consumers' photos have a backbone, branches and a fusion of their own (DARN).
    node.DOMAIN_TOWERS = False
    # What is read from the fused vector, and what each loss weighs (not said).
    node.HEADS = ["CategoryHead", "AttributeHead", "EmbeddingHead"]
    node.CATEGORY_WEIGHT = 1.0
    node.ATTRIBUTE_WEIGHT = 1.0
    # As for MODEL.ROI_ATTRIBUTE_HEAD.BALANCE; the paper: "the ratio of the numbers of positive and
    # negative samples in the training set", and not whether of each attribute.
    node.ATTRIBUTE_BALANCE = "all"
    # TypedAttributeHead: softmax over a type's attributes where they exclude one another: where of
    # the training images that have one of them, at most this share has a second (labels err); and
    # the width of a layer of each type's own, 0: none (not said).
    node.EXCLUSIVE_SHARE = 0.15
    node.TYPE_DIM = 0
    node.EMBEDDING_DIM = 0  # 0: the fused vector, of length 1
    node.TRIPLET_WEIGHT = 1.0
    node.TRIPLET_MARGIN = 0.3  # not said; usual between vectors of length 1
    # Systems on frozen vectors: heads alone learn; backbone, branches and fusion (of MODEL.WEIGHTS)
    # stay, batch norm's statistics too. Of the heads, those that stay as well and have no loss.
    node.FROZEN = False
    node.FROZEN_HEADS = []
    # HEADS SimilarityHead: what orders the candidates that the embedding has found.
    node.SIMILARITY = similarity_keys()
    # ManipulationHead: what exchanges an attribute in a vector ("AttributeGenerator", FLAM's, or
    # "ResidualMemory"), and the types of attributes of which a garment has one, (): all of the
    # training set. Numbers of an embedding, the dictionary's margin, hidden layers of generator and
    # discriminator (not said).
    node.MANIPULATION = CfgNode()
    node.MANIPULATION.NAME = "AttributeGenerator"
    node.MANIPULATION.TYPES = ()
    node.MANIPULATION.EMBEDDING_DIM = 64
    node.MANIPULATION.MARGIN = 0.3
    node.MANIPULATION.WIDTHS = [1024, 1024]
    # What tells the generator in training which value is wanted: the embedding of a "garment" that
    # has it (paper), or its "entry" in the dictionary, as when it is asked. What each loss weighs
    # (not said); STEP_WEIGHT, of the distance that the generator moves a vector: ours, 0: none.
    node.MANIPULATION.CONDITION = "garment"
    node.MANIPULATION.DICTIONARY_WEIGHT = 1.0
    node.MANIPULATION.ADVERSARIAL_WEIGHT = 1.0
    node.MANIPULATION.CYCLE_WEIGHT = 1.0
    node.MANIPULATION.MATCHING_WEIGHT = 1.0
    node.MANIPULATION.STEP_WEIGHT = 0.0
    node.MANIPULATION.MEMORY_WEIGHT = 1.0
    # Words of descriptions (WordHead; Corbiere et al. 2017): the most frequent so many of the
    # training set; a vocabulary of more than SAMPLED is learned by so many words in a batch, drawn
    # anew (how many, is not said; 0: always by all).
    node.WORDS = CfgNode()
    node.WORDS.VOCABULARY = 30000
    node.WORDS.SAMPLED = 4096
    node.WORDS.WEIGHT = 1.0
    # Two stages in turn of so many iterations, (landmarks, rest); (): all losses at once. In each,
    # what the landmarks' losses and the others weigh: the paper says large and small, public code
    # has 5 : 1. What weighs 0 rests.
    node.STAGES = CfgNode()
    node.STAGES.LENGTHS = ()
    node.STAGES.LANDMARKS = (1.0, 0.2)
    node.STAGES.REST = (0.2, 1.0)

    # How many candidates a vector finds for a similarity to order.
    cfg.TEST.SHORTLIST = 100
    # Images of a batch when a recognition model is evaluated.
    cfg.TEST.RECOGNITION_BATCH = 32
    # Pool around the true landmarks, which nobody has: results are then called oracle.
    cfg.TEST.ORACLE_LANDMARKS = False


def similarity_keys() -> CfgNode:
    """Keys of a similarity (match_rcnn/modeling/similarity)."""
    node = CfgNode()
    # "RegionGraph" (GRNet), "PairNetwork" (WTBI) or "ProductSimilarity" (Match R-CNN).
    node.NAME = "RegionGraph"
    # What its loss weighs, and of each query in a batch how many pairs with other items it learns
    # from: the nearest by the vectors; 0: all.
    node.WEIGHT = 1.0
    node.NEGATIVES = 3
    # The paper's three layers; their widths are not said. INPUT: "concat", the two vectors (paper),
    # or "symmetric". A copy for each category on top of a network trained without copies.
    node.PAIR = CfgNode()
    node.PAIR.INPUT = "symmetric"
    node.PAIR.HIDDEN_DIMS = [512, 512]
    node.PAIR.PER_CATEGORY = False
    # Windows a side at each scale, widths of a region's vector and of a node, reasoning steps: none
    # of them is published.
    node.GRAPH = CfgNode()
    node.GRAPH.SCALES = [1, 2, 4]
    node.GRAPH.REGION_DIM = 128
    node.GRAPH.NODE_DIM = 128
    node.GRAPH.STEPS = 2
    return node


def follow_taxonomy(cfg: CfgNode, taxonomy: Taxonomy, stated: Sequence[str] = ()) -> None:
    """Set in place ``MODEL.TAXONOMY`` and what depends on it and is not set.

    A key counts as not set where it has the host's default or the number of DeepFashion2, which is
    our configs' default.

    Args:
        taxonomy: of ``DATASETS.TRAIN``.
        stated: keys of the command line; they count as set.

    Raises:
        ValueError: a key is set to another number, or there are no landmarks to learn.
    """
    if cfg.MODEL.KEYPOINT_ON and not taxonomy.num_landmarks:
        raise ValueError(
            f"MODEL.KEYPOINT_ON is set, but no category of {taxonomy.name} has landmarks "
            "(keypoints); switch it off"
        )
    set_taxonomy(cfg, taxonomy)
    numbers = {
        "MODEL.ROI_HEADS.NUM_CLASSES": ("num_categories", "categories"),
        "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": ("num_landmarks", "landmarks"),
    }
    for key, (attribute, what) in numbers.items():
        number, found = getattr(taxonomy, attribute), _value(cfg, key)
        unset = (_value(get_cfg(), key), getattr(DEEPFASHION2, attribute))
        if number and found != number and (key in stated or found not in unset):
            raise ValueError(
                f"{key} is {found}, but the training set ({taxonomy.name}) has {number} {what}; "
                "leave the key out, and it follows"
            )
        if number:
            cfg.merge_from_list([key, number])


def _value(cfg: CfgNode, key: str) -> Any:
    return reduce(getattr, key.split("."), cfg)


def get_match_rcnn_cfg() -> CfgNode:
    """The host's default config with our keys."""
    cfg = get_cfg()
    add_match_rcnn_config(cfg)
    return cfg
