"""Lists of elements, by the keywords of DICOM PS3.6: what options keep, and what a text may stand in.

The table of PS3.15 says nothing of most elements, and leaves them. Here a text is kept only in the elements of
`TECHNICAL`, which scanners fill, not people.
"""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """A list that is easier to read without marks."""
    return tuple(text.split())


# columns of PS3.15 table E.1-1
DEVICE = words(
    "DeviceSerialNumber StationName DeviceUID GantryID GeneratorID DetectorID CassetteID PlateID SourceSerialNumber "
    "TreatmentMachineName XRayDetectorID XRaySourceID XRayDetectorLabel LensMake LensModel LensSpecification "
    "LensSerialNumber ManufacturerDeviceClassUID UniqueDeviceIdentifier UDISequence DeviceID"
)
INSTITUTION = words(
    "InstitutionName InstitutionAddress InstitutionCodeSequence InstitutionalDepartmentName "
    "InstitutionalDepartmentTypeCodeSequence"
)
PATIENT = words(
    "PatientSex PatientAge PatientSize PatientWeight EthnicGroup EthnicGroups EthnicGroupCodeSequence "
    "PatientSexNeutered PregnancyStatus SmokingStatus"
)
# the same of later editions, which the table does not know as such
BODY = words(
    "PatientBodyMassIndex MeasuredAPDimension MeasuredLateralDimension ExaminedBodyThickness PatientSizeCodeSequence"
)
# what says how a scan was made or what was drawn; comments, histories and diagnoses always go
DESCRIPTORS = words(
    "StudyDescription SeriesDescription ProtocolName RequestedProcedureDescription PerformedProcedureStepDescription "
    "AcquisitionDeviceProcessingDescription AcquisitionProtocolDescription DerivationDescription ContrastBolusAgent "
    "ClinicalTrialSeriesDescription StructureSetLabel StructureSetName ROIName ROIDescription ROIObservationLabel "
    "ROIObservationDescription SegmentLabel SegmentDescription TrackingID ContentDescription RTPlanLabel RTPlanName "
    "DimensionDescriptionLabel FrameLabel BeamName DoseComment MetaboliteMapDescription LUTExplanation"
)
# dates of a life, which no option keeps
NEVER_DATES = words("PatientBirthDate PatientBirthTime PatientBirthDateInAlternativeCalendar")

# names of structures, kept where they are known ones
STRUCTURES = words("ROIName SegmentLabel")

# what an item of a report says, in numbers or by a code
ANSWERS = words("MeasuredValueSequence ConceptCodeSequence")

# texts that scanners and programs write of themselves
TECHNICAL = words(
    "Manufacturer ManufacturerModelName SoftwareVersions SequenceName PulseSequenceName ConvolutionKernel FilterType "
    "ImageFilter CollimatorGridName ReceiveCoilName TransmitCoilName ReceiveCoilManufacturerName "
    "TransmitCoilManufacturerName MultiCoilElementName MultiCoilConfiguration ImagedNucleus Radiopharmaceutical "
    "RadiopharmaceuticalRoute ContrastBolusRoute InterventionDrugName TriggerSourceOrType CardiacFramingType "
    "PVCRejection PlateType PhosphorType AcquisitionDeviceProcessingCode DetectorManufacturerName "
    "DetectorManufacturerModelName ASLTechniqueDescription ASLCrusherDescription ASLBolusCutoffTechnique "
    "PositionReferenceIndicator StackID RescaleType WindowCenterWidthExplanation ModalityLUTType LUTLabel "
    "PixelSpacingCalibrationDescription AttenuationCorrectionMethod ReconstructionMethod ScatterCorrectionMethod "
    "DetectorLinesOfResponseUsed EnergyWindowName AlgorithmName AlgorithmVersion AlgorithmSource SegmentAlgorithmName "
    "ApplicationName ApplicationVersion ApplicationManufacturer SourceIsotopeName TimeSource ProcessingFunction"
)

# texts without which an object is none (type 1): a word takes their place. All others go.
REQUIRED_TEXTS = words(
    "RTImageLabel ApplicatorID GeneralAccessoryID MaterialID TextValue ExposureControlModeDescription "
    "AcquisitionProtocolName "
    "PaddleDescription MetaboliteMapDescription ContentLabel TrackingID HL7InstanceIdentifier AlgorithmDescription "
    "SegmentLabel FluenceModeID"
)
# texts that may be empty, but must be there (type 2)
EMPTY_TEXTS = words(
    "ContentDescription RadiationMachineName FixationDeviceLabel ShieldingDeviceLabel SetupDeviceLabel "
    "BrachyAccessoryDeviceID ChannelShieldID PatientAdditionalPosition"
)

# arrays of bytes that are pictures, tables or shapes; all others go, profiles of colour (with their texts), too
ARRAYS = words(
    "PixelData FloatPixelData DoubleFloatPixelData "
    "RedPaletteColorLookupTableData GreenPaletteColorLookupTableData BluePaletteColorLookupTableData "
    "SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData "
    "SegmentedBluePaletteColorLookupTableData LUTData VectorGridData VerticesOfThePolygonalOutline SpectroscopyData "
    "PointCoordinatesData VectorCoordinateData LongPrimitivePointIndexList LongTrianglePointIndexList "
    "LongEdgePointIndexList LongVertexPointIndexList"
)

# what is always taken out although the table leaves it
GONE = words(
    "ICCProfile CodingSchemeIdentificationSequence EncryptedAttributesSequence MACParametersSequence "
    "PrivateDataElementDefinitionSequence PrivateDataElementCharacteristicsSequence DeidentificationMethod "
    "DeidentificationMethodCodeSequence DeidentificationActionSequence PatientIdentityRemoved "
    "LongitudinalTemporalInformationModified SpecificCharacterSet ConsentForClinicalTrialUseSequence "
    "ConversionSourceAttributesSequence HL7StructuredDocumentReferenceSequence StrainAdditionalInformation "
    "DischargeDiagnosisCodeSequence PatientClinicalTrialParticipationSequence PertinentDocumentsSequence "
    "PertinentResourcesSequence"
)

# without these, as they were, an object is another one
NEEDED = words(
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality Rows Columns BitsAllocated BitsStored "
    "HighBit PixelRepresentation SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames "
    "ImagePositionPatient ImageOrientationPatient PixelSpacing RescaleSlope RescaleIntercept"
)

# codes that scanners write into every image, whatever letters of a name are in them
COMMON_CODES = frozenset(
    words(
        "ORIGINAL DERIVED PRIMARY SECONDARY AXIAL CORONAL SAGITTAL LOCALIZER OTHER MONOCHROME1 MONOCHROME2 RGB PALETTE "
        "VOLUME CT_SOM5 SPI MIXED NONE STANDARD HELICAL CHEST ABDOMEN PELVIS HEAD NECK EXTREMITY BREAST LIVER PROSTATE "
        "BRAIN LUNG KIDNEY HEART SPINE WHOLEBODY CLOSED_PLANAR PATIENT IMAGE BINARY FRACTIONAL LABELMAP SEMIAUTOMATIC "
        "AUTOMATIC MANUAL IDENTITY LINEAR"
    )
)

# (group, creator, element in its block) of PS3.15 table E.3.10-1 that hold numbers about the scan
SAFE_PRIVATE = frozenset(
    (group, creator, element)
    for group, creator, elements in (
        (0x7053, "Philips PET Private Group", (0x00, 0x09)),
        (0x2005, "Philips MR Imaging DD 001", (0x0D, 0x0E)),
        (0x2001, "Philips Imaging DD 001", (0x03,)),
        (0x0019, "SIEMENS MR HEADER", (0x0C, 0x0E, 0x27)),
        (0x00E1, "ELSCINT1", (0x21,)),
        (0x01E1, "ELSCINT1", (0x50,)),
        (0x01F1, "ELSCINT1", (0x07, 0x26, 0x27)),
        (0x0019, "GEMS_ACQU_01", (0x23, 0x24, 0x27)),
        (0x0025, "GEMS_SERS_01", (0x07,)),
        (0x0043, "GEMS_PARM_01", (0x39, 0x6F)),
        (0x0045, "GEMS_HELIOS_01", (0x01, 0x02)),
    )
    for element in elements
)
