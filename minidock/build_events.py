"""The events of a build as the faces get them: they see no deeper than this floor."""

from minidock.build.events import CacheHit as CacheHit
from minidock.build.events import CacheMiss as CacheMiss
from minidock.build.events import ContainerEnded as ContainerEnded
from minidock.build.events import ContainerMade as ContainerMade
from minidock.build.events import Event as Event
from minidock.build.events import ImageWritten as ImageWritten
from minidock.build.events import LayerMade as LayerMade
from minidock.build.events import Note as Note
from minidock.build.events import Output as Output
from minidock.build.events import StageDone as StageDone
from minidock.build.events import StepBegun as StepBegun
from minidock.build.events import StepDone as StepDone
