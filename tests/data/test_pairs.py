"""Layouts of public data sets, as lists of names: who belongs to whom, and what is left out and told."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from medsam.data.pairs import pair_files


def found(*paths: str, masks: tuple[str, ...] = ()) -> tuple[dict[str, dict[str, object]], str]:
    """Image -> {structure: label, or labels}; and the remarks."""
    paired = pair_files(map(PurePath, paths), lambda path: str(path) in masks)
    pairs: dict[str, dict[str, object]] = {}
    for pair in paired.pairs:
        labels: dict[str, object] = {}
        for drawn in pair.labels:
            if drawn.structure in labels:
                before = labels[drawn.structure]
                labels[drawn.structure] = [*(before if isinstance(before, list) else [before]), str(drawn.path)]
            else:
                labels[drawn.structure] = str(drawn.path)
        pairs[str(pair.image)] = labels
    return pairs, " | ".join(paired.remarks)


def one(image: str, label: str) -> dict[str, dict[str, object]]:
    return {image: {"": label}}


# layout -> (files, what is right): names as the sets are handed out, as far as is known here
LAYOUTS: dict[str, tuple[list[str], dict[str, dict[str, object]]]] = {
    "Kvasir-SEG": (["images/c1.jpg", "masks/c1.jpg"], one("images/c1.jpg", "masks/c1.jpg")),
    "CVC-ClinicDB": (
        ["PNG/Original/1.png", "PNG/Ground Truth/1.png", "TIF/Original/1.tif", "TIF/Ground Truth/1.tif"],
        one("PNG/Original/1.png", "PNG/Ground Truth/1.png") | one("TIF/Original/1.tif", "TIF/Ground Truth/1.tif"),
    ),
    "BUSI": (
        [
            f"Dataset_BUSI_with_GT/benign/benign ({n}){rest}.png"
            for n, rest in [(1, ""), (1, "_mask"), (1, "_mask_1"), (11, ""), (11, "_mask")]
        ],
        {
            "Dataset_BUSI_with_GT/benign/benign (1).png": {
                "": [
                    "Dataset_BUSI_with_GT/benign/benign (1)_mask.png",
                    "Dataset_BUSI_with_GT/benign/benign (1)_mask_1.png",
                ]
            },
            "Dataset_BUSI_with_GT/benign/benign (11).png": {"": "Dataset_BUSI_with_GT/benign/benign (11)_mask.png"},
        },
    ),
    "BUS-BRA": (
        [f"{kind}_{n:04}-{side}.png" for kind in ("Images/bus", "Masks/mask") for n in (1, 2) for side in "lr"],
        {f"Images/bus_{n:04}-{side}.png": {"": f"Masks/mask_{n:04}-{side}.png"} for n in (1, 2) for side in "lr"},
    ),
    "TN3K": (
        [f"{part}-{kind}/0000.jpg" for part in ("trainval", "test") for kind in ("image", "mask")],
        one("trainval-image/0000.jpg", "trainval-mask/0000.jpg") | one("test-image/0000.jpg", "test-mask/0000.jpg"),
    ),
    "HC18": (
        [f"training_set/{n}HC{rest}.png" for n in ("000_", "010_", "010_2") for rest in ("", "_Annotation")],
        {f"training_set/{n}HC.png": {"": f"training_set/{n}HC_Annotation.png"} for n in ("000_", "010_", "010_2")},
    ),
    "UDIAT": (["original/000001.png", "GT/000001.png"], one("original/000001.png", "GT/000001.png")),
    "ISIC 2017": (
        [
            "ISIC-2017_Training_Data/ISIC_0000000.jpg",
            "ISIC-2017_Training_Data/ISIC_0000000_superpixels.png",
            "ISIC-2017_Training_Data/ISIC_0000001.jpg",
            "ISIC-2017_Training_Part1_GroundTruth/ISIC_0000000_segmentation.png",
            "ISIC-2017_Training_Part1_GroundTruth/ISIC_0000001_segmentation.png",
        ],
        {
            f"ISIC-2017_Training_Data/ISIC_000000{n}.jpg": {
                "": f"ISIC-2017_Training_Part1_GroundTruth/ISIC_000000{n}_segmentation.png"
            }
            for n in (0, 1)
        },
    ),
    "ISIC 2018": (
        [
            "ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg",
            "ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png",
        ],
        one(
            "ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg",
            "ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png",
        ),
    ),
    "IDRiD": (
        ["1. Original Images/a. Training Set/IDRiD_01.jpg"]
        + [
            f"2. All Segmentation Groundtruths/a. Training Set/{folder}/IDRiD_01_{short}.tif"
            for folder, short in (("1. Microaneurysms", "MA"), ("2. Haemorrhages", "HE"))
        ],
        {
            "1. Original Images/a. Training Set/IDRiD_01.jpg": {
                "MA": "2. All Segmentation Groundtruths/a. Training Set/1. Microaneurysms/IDRiD_01_MA.tif",
                "HE": "2. All Segmentation Groundtruths/a. Training Set/2. Haemorrhages/IDRiD_01_HE.tif",
            }
        },
    ),
    "DRIVE": (
        [
            "training/images/21_training.tif",
            "training/1st_manual/21_manual1.gif",
            "training/mask/21_training_mask.gif",
            "test/images/01_test.tif",
            "test/1st_manual/01_manual1.gif",
            "test/mask/01_test_mask.gif",
        ],
        {
            "training/images/21_training.tif": {
                "1st_manual": "training/1st_manual/21_manual1.gif",
                "": "training/mask/21_training_mask.gif",
            },
            "test/images/01_test.tif": {
                "1st_manual": "test/1st_manual/01_manual1.gif",
                "": "test/mask/01_test_mask.gif",
            },
        },
    ),
    "STARE": (
        ["stare-images/im0001.png", "labels-ah/im0001.ah.png"],
        {"stare-images/im0001.png": {"ah": "labels-ah/im0001.ah.png"}},
    ),
    "Montgomery": (
        ["CXR_png/MCUCXR_0001_0.png"] + [f"ManualMask/{side}Mask/MCUCXR_0001_0.png" for side in ("left", "right")],
        {"CXR_png/MCUCXR_0001_0.png": {side: f"ManualMask/{side}Mask/MCUCXR_0001_0.png" for side in ("left", "right")}},
    ),
    "Shenzhen": (
        ["CXR_png/CHNCXR_0001_0.png", "mask/CHNCXR_0001_0_mask.png"],
        one("CXR_png/CHNCXR_0001_0.png", "mask/CHNCXR_0001_0_mask.png"),
    ),
    "JSRT and SCR": (
        ["Images/JPCLN001.png"] + [f"fold1/masks/{name}/JPCLN001.gif" for name in ("heart", "left lung", "right lung")],
        {
            "Images/JPCLN001.png": {
                name: f"fold1/masks/{name}/JPCLN001.gif" for name in ("heart", "left lung", "right lung")
            }
        },
    ),
    "COVID-QU-Ex": (
        [f"COVID-19/{folder}/c1.png" for folder in ("images", "lung masks", "infection masks")]
        + [f"Normal/{folder}/n1.png" for folder in ("images", "lung masks")],
        {
            "COVID-19/images/c1.png": {
                "lung": "COVID-19/lung masks/c1.png",
                "infection": "COVID-19/infection masks/c1.png",
            },
            "Normal/images/n1.png": {"lung": "Normal/lung masks/n1.png"},
        },
    ),
    "ACDC": (
        [f"training/patient001/patient001_{rest}.nii.gz" for rest in ("4d", "frame01", "frame01_gt")],
        {
            "training/patient001/patient001_frame01.nii.gz": {"": "training/patient001/patient001_frame01_gt.nii.gz"},
            "training/patient001/patient001_4d.nii.gz": {},
        },
    ),
    "CAMUS": (
        [
            f"patient0001/patient0001_{v}_{t}{g}.nii.gz"
            for v in ("2CH", "4CH")
            for t in ("ED", "ES")
            for g in ("", "_gt")
        ]
        + ["patient0001/patient0001_2CH_half_sequence.nii.gz", "patient0001/patient0001_2CH_half_sequence_gt.nii.gz"],
        {
            f"patient0001/patient0001_{one}.nii.gz": {"": f"patient0001/patient0001_{one}_gt.nii.gz"}
            for one in ("2CH_ED", "2CH_ES", "4CH_ED", "4CH_ES", "2CH_half_sequence")
        },
    ),
    "BraTS 2020": (
        [f"B_001/B_001_{rest}.nii.gz" for rest in ("flair", "t1", "t1ce", "t2", "seg")],
        {f"B_001/B_001_{rest}.nii.gz": {"": "B_001/B_001_seg.nii.gz"} for rest in ("flair", "t1", "t1ce", "t2")},
    ),
    "BraTS 2023": (
        [f"BraTS-GLI-00000-000/BraTS-GLI-00000-000-{rest}.nii.gz" for rest in ("t1c", "t1n", "t2f", "t2w", "seg")],
        {
            f"BraTS-GLI-00000-000/BraTS-GLI-00000-000-{rest}.nii.gz": {
                "": "BraTS-GLI-00000-000/BraTS-GLI-00000-000-seg.nii.gz"
            }
            for rest in ("t1c", "t1n", "t2f", "t2w")
        },
    ),
    "PROMISE12": (
        ["Case00.mhd", "Case00_segmentation.mhd", "Case01.mhd", "Case01_segmentation.mhd"],
        one("Case00.mhd", "Case00_segmentation.mhd") | one("Case01.mhd", "Case01_segmentation.mhd"),
    ),
    "LiTS": (
        [f"{kind}-{n}.nii" for kind in ("volume", "segmentation") for n in (0, 1, 10)],
        {f"volume-{n}.nii": {"": f"segmentation-{n}.nii"} for n in (0, 1, 10)},
    ),
    "KiTS": (
        [f"case_0000{n}/{kind}.nii.gz" for n in (0, 1) for kind in ("imaging", "segmentation")],
        {f"case_0000{n}/imaging.nii.gz": {"": f"case_0000{n}/segmentation.nii.gz"} for n in (0, 1)},
    ),
    "SLIVER07": (
        ["liver-orig001.mhd", "liver-seg001.mhd", "liver-orig002.mhd", "liver-seg002.mhd"],
        one("liver-orig001.mhd", "liver-seg001.mhd") | one("liver-orig002.mhd", "liver-seg002.mhd"),
    ),
    "AMOS": (
        [f"{kind}/amos_000{n}.nii.gz" for kind in ("imagesTr", "labelsTr") for n in (0, 1, 2)],
        {f"imagesTr/amos_000{n}.nii.gz": {"": f"labelsTr/amos_000{n}.nii.gz"} for n in (0, 1, 2)},
    ),
    "BTCV": (
        ["img/img0001.nii.gz", "img/img0002.nii.gz", "label/label0001.nii.gz", "label/label0002.nii.gz"],
        one("img/img0001.nii.gz", "label/label0001.nii.gz") | one("img/img0002.nii.gz", "label/label0002.nii.gz"),
    ),
    "FLARE22": (
        ["imagesTr/FLARE22_Tr_0001_0000.nii.gz", "labelsTr/FLARE22_Tr_0001.nii.gz"],
        one("imagesTr/FLARE22_Tr_0001_0000.nii.gz", "labelsTr/FLARE22_Tr_0001.nii.gz"),
    ),
    "nnU-Net, two channels": (
        [f"{kind}/a_{n}_000{c}.nii.gz" for kind in ("imagesTr", "imagesTs") for n in (1, 2) for c in (0, 1)]
        + ["labelsTr/a_1.nii.gz", "labelsTr/a_2.nii.gz"],
        {
            "imagesTr/a_1_0000.nii.gz": {"": "labelsTr/a_1.nii.gz"},
            "imagesTr/a_2_0000.nii.gz": {"": "labelsTr/a_2.nii.gz"},
            "imagesTs/a_1_0000.nii.gz": {},
            "imagesTs/a_2_0000.nii.gz": {},
        },
    ),
    "HECKTOR 2022": (
        ["imagesTr/CHUM-001__CT.nii.gz", "imagesTr/CHUM-001__PT.nii.gz", "labelsTr/CHUM-001.nii.gz"],
        one("imagesTr/CHUM-001__CT.nii.gz", "labelsTr/CHUM-001.nii.gz")
        | one("imagesTr/CHUM-001__PT.nii.gz", "labelsTr/CHUM-001.nii.gz"),
    ),
    "TotalSegmentator": (
        [f"s000{n}/{name}.nii.gz" for n in (1, 2) for name in ("ct", "segmentations/liver", "segmentations/spleen")],
        {
            f"s000{n}/ct.nii.gz": {name: f"s000{n}/segmentations/{name}.nii.gz" for name in ("liver", "spleen")}
            for n in (1, 2)
        },
    ),
    "Data Science Bowl 2018": (
        [
            "stage1_train/0a1f/images/0a1f.png",
            "stage1_train/0a1f/masks/77c0.png",
            "stage1_train/0a1f/masks/8d21.png",
            "stage1_train/0b2e/images/0b2e.png",
            "stage1_train/0b2e/masks/93aa.png",
        ],
        {
            "stage1_train/0a1f/images/0a1f.png": {
                "": ["stage1_train/0a1f/masks/77c0.png", "stage1_train/0a1f/masks/8d21.png"]
            },
            "stage1_train/0b2e/images/0b2e.png": {"": "stage1_train/0b2e/masks/93aa.png"},
        },
    ),
    "SegTHOR": (
        [f"train/Patient_0{n}/{name}.nii.gz" for n in (1, 2) for name in (f"Patient_0{n}", "GT")],
        {f"train/Patient_0{n}/Patient_0{n}.nii.gz": {"": f"train/Patient_0{n}/GT.nii.gz"} for n in (1, 2)},
    ),
    "ImageCAS": (
        ["1.img.nii.gz", "1.label.nii.gz", "2.img.nii.gz", "2.label.nii.gz"],
        one("1.img.nii.gz", "1.label.nii.gz") | one("2.img.nii.gz", "2.label.nii.gz"),
    ),
    "IBSR": (
        ["IBSR_01/IBSR_01_ana.nii.gz", "IBSR_01/IBSR_01_seg_ana.nii.gz"],
        one("IBSR_01/IBSR_01_ana.nii.gz", "IBSR_01/IBSR_01_seg_ana.nii.gz"),
    ),
    "VerSe": (
        [
            "rawdata/sub-verse004/sub-verse004_ct.nii.gz",
            "derivatives/sub-verse004/sub-verse004_seg-vert_msk.nii.gz",
        ],
        {
            "rawdata/sub-verse004/sub-verse004_ct.nii.gz": {
                "vert": "derivatives/sub-verse004/sub-verse004_seg-vert_msk.nii.gz"
            }
        },
    ),
    "SAM-Med2D": (
        ["images/s0114_111.png", "images/s0114_11.png", "masks/s0114_11_aorta_000.png"]
        + [f"masks/s0114_111_{name}.png" for name in ("aorta_000", "aorta_001", "rib_left_9_000")],
        {
            "images/s0114_111.png": {
                "aorta": ["masks/s0114_111_aorta_000.png", "masks/s0114_111_aorta_001.png"],
                "rib_left_9": "masks/s0114_111_rib_left_9_000.png",
            },
            "images/s0114_11.png": {"aorta": "masks/s0114_11_aorta_000.png"},
        },
    ),
    "PH2": (
        ["IMD002/IMD002_Dermoscopic_Image/IMD002.bmp", "IMD002/IMD002_lesion_mask/IMD002_lesion.bmp"],
        {"IMD002/IMD002_Dermoscopic_Image/IMD002.bmp": {"lesion": "IMD002/IMD002_lesion_mask/IMD002_lesion.bmp"}},
    ),
    "GlaS": (
        ["testA_1.bmp", "testA_1_anno.bmp", "testA_10.bmp", "testA_10_anno.bmp"],
        one("testA_1.bmp", "testA_1_anno.bmp") | one("testA_10.bmp", "testA_10_anno.bmp"),
    ),
    "MM-WHS": (
        ["ct_train_1001_image.nii.gz", "ct_train_1001_label.nii.gz"],
        one("ct_train_1001_image.nii.gz", "ct_train_1001_label.nii.gz"),
    ),
    "PARSE": (
        ["PA000005/image/PA000005.nii.gz", "PA000005/label/PA000005.nii.gz"],
        one("PA000005/image/PA000005.nii.gz", "PA000005/label/PA000005.nii.gz"),
    ),
    "REFUGE": (
        ["Training400/Glaucoma/g0001.jpg", "Annotation-Training400/Disc_Cup_Masks/Glaucoma/g0001.bmp"],
        one("Training400/Glaucoma/g0001.jpg", "Annotation-Training400/Disc_Cup_Masks/Glaucoma/g0001.bmp"),
    ),
    "LGG": (
        [
            f"kaggle_3m/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_{n}{rest}.tif"
            for n in (1, 10)
            for rest in ("", "_mask")
        ],
        {
            f"kaggle_3m/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_{n}.tif": {
                "": f"kaggle_3m/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_{n}_mask.tif"
            }
            for n in (1, 10)
        },
    ),
    "lungs in CT": (
        [
            "2d_images/ID_0000_Z_0142.tif",
            "2d_masks/ID_0000_Z_0142.tif",
            "3d_images/IMG_0002.nii",
            "3d_images/MASK_0002.nii",
        ],
        one("2d_images/ID_0000_Z_0142.tif", "2d_masks/ID_0000_Z_0142.tif")
        | one("3d_images/IMG_0002.nii", "3d_images/MASK_0002.nii"),
    ),
    "COVID-19-20": (
        ["Train/volume-covid19-A-0003_ct.nii.gz", "Train/volume-covid19-A-0003_seg.nii.gz"],
        one("Train/volume-covid19-A-0003_ct.nii.gz", "Train/volume-covid19-A-0003_seg.nii.gz"),
    ),
    "NIH pancreas": (
        [f"{kind}000{n}.nii.gz" for kind in ("Pancreas-CT/PANCREAS_", "labels/label") for n in (1, 2)],
        {f"Pancreas-CT/PANCREAS_000{n}.nii.gz": {"": f"labels/label000{n}.nii.gz"} for n in (1, 2)},
    ),
    "head and neck": (
        ["0522c0001/img.nrrd", "0522c0001/structures/BrainStem.nrrd", "0522c0001/structures/Chiasm.nrrd"],
        {"0522c0001/img.nrrd": {name: f"0522c0001/structures/{name}.nrrd" for name in ("BrainStem", "Chiasm")}},
    ),
    "CHAOS": (["MR/1/T1DUAL/Ground/IMG-0004-00002.png", "a.png"], {"a.png": {}}),
    "autoPET": (
        [f"PETCT_{n}/{name}.nii.gz" for n in (1, 2) for name in ("CTres", "SUV", "SEG")],
        {f"PETCT_{n}/{name}.nii.gz": {"": f"PETCT_{n}/SEG.nii.gz"} for n in (1, 2) for name in ("CTres", "SUV")},
    ),
}


@pytest.mark.parametrize(("files", "right"), LAYOUTS.values(), ids=list(LAYOUTS))
def test_the_layout_of_a_public_data_set_pairs_by_its_names(files, right):
    pairs, remarks = found(*files)
    assert pairs == right, remarks


def test_a_folder_of_scans_and_masks_is_no_folder_of_labels_whatever_lies_beside_it():
    files, right = LAYOUTS["BUSI"]
    pairs, remarks = found(*files, "other/images/x.png", "other/masks/x.png")
    assert pairs == right | one("other/images/x.png", "other/masks/x.png"), remarks


def test_a_label_whose_scan_is_missing_goes_to_no_other():
    """X_2 is no second mask of X, and case_2 no mask of the only scan, case_1."""
    pairs, remarks = found("p_1.png", "p_1_mask.png", "p_1_2_mask.png", "q/images/case_1.png", "q/masks/case_2.png")
    assert pairs == one("p_1.png", "p_1_mask.png") | {"q/images/case_1.png": {}}
    assert "2 label files fit no image" in remarks


def test_two_labels_of_one_name_are_left_out_with_their_scan():
    pairs, remarks = found("images/x.png", "masks/x.png", "masks/x.jpg", "images/y.png", "masks/y.png")
    assert pairs == one("images/y.png", "masks/y.png")
    assert "not clear what belongs together" in remarks


def test_numbers_are_channels_only_where_no_label_has_them():
    files = [f"{kind}/img_000{n}.png" for kind in ("images", "masks") for n in range(4)]
    assert found(*files)[0] == {f"images/img_000{n}.png": {"": f"masks/img_000{n}.png"} for n in range(4)}
    alone = [f"images/img_000{n}.png" for n in range(4)]
    assert found(*alone)[0] == {name: {} for name in alone}
    pairs, remarks = found("images/a_0000.nii", "images/a_0001.nii", "images/a_0002.nii", "labels/a.nii")
    assert pairs == one("images/a_0000.nii", "labels/a.nii")
    assert "2 further channels" in remarks


@pytest.mark.parametrize(
    "label",
    ["x_mask", "mask_x", "x_seg", "seg-x", "x.mask", "x-label", "xmask", "x_GT", "x GroundTruth", "Ground Truth/x"],
)
def test_a_label_is_known_by_its_word_wherever_it_stands(label):
    assert found("x.png", f"{label}.png")[0] == one("x.png", f"{label}.png")


def test_what_only_its_content_tells():
    pairs, _ = found("images/x.png", "liver/x.png", "x_y.png", masks=("liver/x.png",))
    assert pairs == {"images/x.png": {"liver": "liver/x.png"}, "x_y.png": {}}
    pairs, _ = found("Image_01L.jpg", "Image_01L_1stHO.png", "Image_01L_2ndHO.png", masks=("Image_01L_1stHO.png",))
    assert pairs["Image_01L.jpg"] == {"1stHO": "Image_01L_1stHO.png"}


def test_masks_beside_the_one_scan_of_a_folder_are_its_structures_when_that_is_what_they_hold():
    files = ["p1/img.nrrd", "p1/BrainStem.nrrd", "p1/dose.nrrd", "p2_ct.nii", "p2_liver.nii", "p2_pet.nii"]
    pairs, _ = found(*files, masks=("p1/BrainStem.nrrd", "p2_liver.nii"))
    assert pairs.pop("p1/img.nrrd") == {"BrainStem": "p1/BrainStem.nrrd"}
    assert pairs == {name: {"liver": "p2_liver.nii"} for name in ("p2_ct.nii", "p2_pet.nii")} | {"p1/dose.nrrd": {}}


@pytest.mark.parametrize("above", ["CT/{}", "P0{}/followup", "case{}"])
def test_a_mask_beside_the_one_scan_of_a_folder_is_its_structure_although_other_folders_have_one_of_its_name(above):
    folders = [above.format(n) for n in (1, 2)]
    masks = tuple(f"{folder}/liver.nii.gz" for folder in folders)
    pairs, _ = found(*(f"{folder}/image.nii.gz" for folder in folders), *masks, masks=masks)
    assert pairs == {f"{folder}/image.nii.gz": {"liver": f"{folder}/liver.nii.gz"} for folder in folders}


def test_a_folder_of_masks_that_is_called_like_a_scan_beside_it_is_the_scans():
    masks = tuple(f"im{n}/{name}.png" for n in (1, 2) for name in ("heart", "lung"))
    pairs, _ = found("im1.png", "im2.png", *masks, masks=masks)
    assert pairs == {f"im{n}.png": {"heart": f"im{n}/heart.png", "lung": f"im{n}/lung.png"} for n in (1, 2)}


def test_of_two_files_of_one_name_in_a_folder_the_one_that_is_a_mask_is_the_others():
    files = [f"{n}.{suffix}" for n in (1, 2) for suffix in ("jpg", "png")]
    pairs, _ = found(*files, masks=("1.png", "2.png"))
    assert pairs == one("1.jpg", "1.png") | one("2.jpg", "2.png")
    # of two masks, or of two scans, neither is told from the other
    assert not any(found(*files, masks=tuple(files))[0].values())
    assert not any(found(*files)[0].values())


def test_masks_told_by_a_number_alone_are_one_structure_of_their_scan():
    pairs, _ = found("images/c1.png", "images/c2.png", *(f"masks/c{n}_{k}.png" for n in (1, 2) for k in (0, 1)))
    assert pairs == {f"images/c{n}.png": {"": [f"masks/c{n}_0.png", f"masks/c{n}_1.png"]} for n in (1, 2)}


@pytest.mark.parametrize("images", [["c1.png", "c2_0.png"], ["c1.png", "c1_1.png"]])
def test_a_number_alone_tells_no_mask_where_scans_have_such_names(images):
    pairs, told = found(*(f"images/{name}" for name in images), "masks/c1_7.png")
    assert not any(pairs.values())
    assert "fits no image" in told


def test_the_order_of_the_files_does_not_matter():
    for files, right in LAYOUTS.values():
        assert found(*reversed(files))[0] == right
