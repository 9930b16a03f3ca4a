"""Servo motor: a DC motor with gears and the friction of its gears, from published identifications."""

from dataclasses import dataclass, replace

SIMILAR = 1.5
"""Ratio up to which the torque or the speed of a published motor suits a joint as it is."""


@dataclass(frozen=True, kw_only=True)
class ServoMotor:
    """Servo motor, seen at its output shaft. Torques are in N m (forces in N), speeds in rad/s (m/s).

    Source of the friction: model m6 of BAM, Duclusaud et al. (2024), arXiv:2410.08650.
    """

    torque_constant: float
    """In N m/A, and in V s/rad."""
    resistance: float
    """In ohm."""
    armature: float
    """Inertia of rotor and gears, in kg m²."""
    supply: float
    """Voltage of the supply, in V."""
    max_duty: float
    """Largest share of the supply's voltage that the motor gets."""
    position_gain: float
    """Duty for each rad of position error."""
    friction_base: float
    friction_stribeck: float
    """Friction at rest beyond `friction_base`."""
    friction_viscous: float
    """In N m s/rad."""
    load_friction_motor: float
    """Friction for each N m of the motor's torque."""
    load_friction_external: float
    """Friction for each N m that the load applies."""
    load_friction_motor_stribeck: float
    load_friction_external_stribeck: float
    load_friction_motor_quad: float
    """In 1/(N m)."""
    load_friction_external_quad: float
    stribeck_speed: float
    stribeck_exponent: float

    @property
    def largest_voltage(self) -> float:
        return self.supply * self.max_duty

    @property
    def stall_torque(self) -> float:
        """Torque at rest with the largest voltage, without friction."""
        return self.torque_constant * self.largest_voltage / self.resistance

    @property
    def no_load_speed(self) -> float:
        """Speed at the largest voltage where nothing brakes, in rad/s (m/s)."""
        return self.largest_voltage / self.torque_constant

    @property
    def back_emf_damping(self) -> float:
        """Torque that the back-EMF takes for each rad/s."""
        return self.torque_constant**2 / self.resistance

    @property
    def stiffness(self) -> float:
        """Torque for each rad of position error, below the largest duty."""
        return self.torque_constant / self.resistance * self.supply * self.position_gain

    def scale(self, motors: float, gear: float) -> "ServoMotor":
        """Return several of these motors on one shaft, behind a further gear.

        Load-dependent friction is a share of the torque, so that it does not change.

        Args:
            motors: How many; a part of one is a smaller motor of the same kind.
            gear: Turns of the motors' output for each turn of the shaft, in 1 (1/m).
        """
        torque = motors * gear
        return replace(
            self,
            torque_constant=self.torque_constant * gear,
            resistance=self.resistance / motors,
            armature=self.armature * motors * gear**2,
            position_gain=self.position_gain * gear,
            friction_base=self.friction_base * torque,
            friction_stribeck=self.friction_stribeck * torque,
            friction_viscous=self.friction_viscous * motors * gear**2,
            load_friction_motor_quad=self.load_friction_motor_quad / torque,
            load_friction_external_quad=self.load_friction_external_quad / torque,
            stribeck_speed=self.stribeck_speed / gear,
        )

    def fit(self, torque: float, speed: float) -> "ServoMotor":
        """Return the motor, scaled to a joint where it does not suit it.

        Args:
            torque: Largest torque of the joint's own motor.
            speed: Largest speed of the joint.
        """
        gear = _fit(self.no_load_speed, speed)
        return self.scale(1 / _fit(self.stall_torque * gear, torque), gear)


def _fit(own: float, wanted: float) -> float:
    """Return the ratio of two numbers; 1 where they are similar."""
    ratio = own / wanted
    return 1.0 if 1 / SIMILAR <= ratio <= SIMILAR else ratio


STS3215 = ServoMotor(
    torque_constant=1.27532,
    resistance=2.75342,
    armature=0.0215643,
    supply=7.4,
    max_duty=0.97,
    position_gain=32 * 0.166 * 1.16170,
    friction_base=0.0533135,
    friction_stribeck=4.25732e-5,
    friction_viscous=0.0281605,
    load_friction_motor=0.0449120,
    load_friction_external=0.243555,
    load_friction_motor_stribeck=1.24489e-4,
    load_friction_external_stribeck=0.142291,
    load_friction_motor_quad=0.00759494,
    load_friction_external_quad=0.00340409,
    stribeck_speed=0.371137,
    stribeck_exponent=9.93095,
)
"""Feetech STS3215 of 7.4 V, at the proportional gain of its firmware, 32.

Source: Rhoban/bam@31e5b97, bam/params/feetech_sts3215_7_4V/m6.json, and bam/feetech/actuator.py for the electronics.
"""
MX106 = ServoMotor(
    torque_constant=2.20983,
    resistance=2.03366,
    armature=0.0260162,
    supply=15.0,
    max_duty=0.9625,
    position_gain=32 * 0.158,
    friction_base=1.02325e-5,
    friction_stribeck=0.121954,
    friction_viscous=0.0507157,
    load_friction_motor=0.198006,
    load_friction_external=0.0222155,
    load_friction_motor_stribeck=0.198600,
    load_friction_external_stribeck=0.0871033,
    load_friction_motor_quad=0.00999993,
    load_friction_external_quad=7.32692e-5,
    stribeck_speed=1.74633,
    stribeck_exponent=1.14283,
)
"""Robotis Dynamixel MX-106 at the proportional gain of its firmware, 32.

Source: Rhoban/bam@ea21610, bam/params/mx106/m6.json, and bam/dynamixel/actuator.py for the electronics.
"""
