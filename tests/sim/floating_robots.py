"""Small robots of our own whose base floats: one stands on the ground, one swims without gravity."""

LEG = """
      <body name="{name}" pos="{x} {y} 0">
        <joint name="{name}" axis="{axis}" range="-0.9 0.9" damping="0.05" armature="0.002"/>
        <geom type="capsule" size="0.015" fromto="0 0 0 {dx} {dy} -0.15" mass="0.1"/>
      </body>"""
CORNERS = {"front_left": (1, 1), "front_right": (1, -1), "back_left": (-1, 1), "back_right": (-1, -1)}
LEGS = "".join(
    LEG.format(name=name, x=0.12 * x, y=0.08 * y, axis=f"{-y} {x} 0", dx=0.05 * x, dy=0.05 * y)
    for name, (x, y) in CORNERS.items()
)
SERVOS = "".join(
    f'<position name="{name}" joint="{name}" kp="6" kv="0.3" ctrlrange="-0.9 0.9" forcerange="-4 4"/>'
    for name in CORNERS
)
CRAWLER = f"""
<mujoco model="crawler">
  <compiler angle="radian"/>
  <option timestep="0.004" integrator="implicitfast"/>
  <worldbody>
    <geom name="ground" type="plane" size="0 0 1"/>
    <body name="trunk" pos="0 0 0.3">
      <freejoint name="root"/>
      <geom type="box" size="0.14 0.09 0.03" mass="1"/>{LEGS}
    </body>
  </worldbody>
  <actuator>{SERVOS}</actuator>
  <keyframe><key name="home" qpos="0 0 0.166 1 0 0 0  0 0 0 0"/></keyframe>
</mujoco>
"""
"""Four legs of one servo each."""
SWIMMER = """
<mujoco model="swimmer">
  <compiler angle="radian"/>
  <option timestep="0.004" density="1000"><flag gravity="disable"/></option>
  <worldbody>
    <body name="head" pos="0 0 0.4" euler="0 0.3 0">
      <freejoint/>
      <geom type="ellipsoid" size="0.06 0.02 0.03"/>
      <body name="tail" pos="-0.06 0 0">
        <joint name="tail" axis="0 0 1" range="-1 1" damping="0.001"/>
        <geom type="ellipsoid" size="0.04 0.005 0.03" pos="-0.04 0 0"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor name="tail" joint="tail" gear="0.01" ctrlrange="-1 1"/></actuator>
</mujoco>
"""
"""A body with a tail in water; its free joint has no name."""
